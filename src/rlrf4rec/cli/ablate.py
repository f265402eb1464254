"""``rlrf4rec ablate``: the same run with one setting changed at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlrf4rec.cli.console import safe, show_json
from rlrf4rec.cli.live import open_reporter
from rlrf4rec.cli.options import ConfigFile, Json, Quiet, Settings, Verbose

EPILOG = """\b
Examples:
  rlrf4rec ablate configs/demo.yaml configs/ablations/axes.yaml --axis reward_metric
  rlrf4rec ablate configs/ml-100k.yaml configs/ablations/axes.yaml --output runs/ablations
  rlrf4rec ablate configs/demo.yaml mine.yaml --quiet --json > ablations.json
"""


def ablate(
    config: ConfigFile,
    ablations: Annotated[
        Path,
        typer.Argument(
            metavar="ABLATIONS", help="A YAML file of axes and variants.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the runs and tables; by default runs/<CONFIG's name>-ablations.",
            show_default=False,
        ),
    ] = None,
    axis: Annotated[
        list[str] | None,
        typer.Option("--axis", help="Only this axis; may be repeated.", show_default=False),
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run CONFIG and each variant of it, and write one table an axis.

    What variants have in common is computed once. Finished work is kept: the same command goes on
    where it was stopped.
    """
    from rlrf4rec.ablation import ablate as run_ablations
    from rlrf4rec.ablation import load_plan
    from rlrf4rec.evaluation.ablations import ablations_markdown

    plan = load_plan(config, ablations, settings or [], axis or [])
    folder = output or Path("runs") / f"{config.stem}-ablations"
    with open_reporter(quiet=quiet) as reporter:
        tables = run_ablations(plan, folder, reporter)
    if as_json:
        show_json(tables.model_dump(mode="json"))
    else:
        typer.echo(safe(ablations_markdown(tables)))
        typer.echo(f"tables  {safe(str(folder / 'ablations.md'))}")
