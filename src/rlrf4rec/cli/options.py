"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlrf4rec.cli.noise import choose_noise

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A YAML file of settings.", show_default=False)
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run's folder.", show_default=False)
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting; may be repeated.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=choose_noise,
        help="Show what the libraries below have to say.",
    ),
]
