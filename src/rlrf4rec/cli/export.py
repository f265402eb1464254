"""``rlrf4rec export``: a run's tuned LLM, to take along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlrf4rec.cli.console import safe
from rlrf4rec.cli.options import RunFolder, Verbose

EPILOG = """\b
Examples:
  rlrf4rec export runs/shop models/shop
  rlrf4rec run shop.yaml --output runs/next --set model.name=models/shop --set rounds.n_rounds=0
"""


def export(
    run: RunFolder,
    output: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A new folder.", show_default=False)
    ],
    policy: Annotated[
        int, typer.Option(min=0, help="The half of the users that the LLM was tuned on.")
    ] = 0,
    verbose: Verbose = False,
) -> None:
    """Write a finished run's tuned LLM as a plain model folder, and print its path.

    Safetensors, tokenizer and chat template in Hugging Face's layout: for transformers, vLLM, and
    as model.name of later runs.
    """
    from rlrf4rec.api import load_run

    load_run(run).export(output, policy)
    typer.echo(safe(str(output)))
