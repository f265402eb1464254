"""``rlrf4rec run``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlrf4rec.cli.console import show_json, show_results
from rlrf4rec.cli.live import open_reporter
from rlrf4rec.cli.options import ConfigFile, Json, Quiet, Settings, Verbose

EPILOG = """\b
Examples:
  rlrf4rec run configs/demo.yaml
  rlrf4rec run configs/demo.yaml --output runs/short --set generation.n_samples=2
  rlrf4rec run configs/demo.yaml --quiet --json > results.json
"""


def run(
    config: ConfigFile,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The run's folder; by default runs/<CONFIG's name>.",
            show_default=False,
        ),
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Tune the LLM on the recommender's feedback, evaluate, and write the report.

    Finished work is kept in the run's folder: the same command goes on where a stopped run was.
    """
    from rlrf4rec.config import load_config

    loaded = load_config(config, settings)
    folder = output or Path("runs") / config.stem
    from rlrf4rec.running import run as run_config

    with open_reporter(quiet=quiet) as reporter:
        results = run_config(loaded, folder, reporter)
    if as_json:
        show_json(results.model_dump(mode="json"))
    else:
        show_results(results, folder)
