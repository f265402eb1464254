"""The commands together, and what happens when one of them fails."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup

import rlrf4rec
from rlrf4rec.cli import ablate, data, doctor, evaluate, infer, report, rerank, run, validate
from rlrf4rec.cli.console import show_error
from rlrf4rec.errors import RLRF4RecError

USER_ERROR = 2
INTERRUPTED = 130  # as shells report a process ended by SIGINT

EPILOG = """\b
Examples:
  rlrf4rec doctor
  rlrf4rec run configs/demo.yaml
  rlrf4rec report runs/demo
  rlrf4rec rerank runs/demo --input lists.jsonl
"""


class Guarded(TyperGroup):
    """Turns errors that a user can mend, and Ctrl-C, into a message and an exit code."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's is click's
        try:
            return super().invoke(ctx)
        except RLRF4RecError as error:
            show_error(error)
            raise typer.Exit(USER_ERROR) from error
        except KeyboardInterrupt as error:
            typer.echo("\nstopped; run again to go on", err=True)
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    name="rlrf4rec",
    cls=Guarded,
    no_args_is_help=True,
    add_completion=False,
    # Plain help can be pasted from: examples are neither boxed nor wrapped.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rlrf4rec {rlrf4rec.__version__}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Tune a language model on a recommender's feedback, and rerank with what it writes."""


for command in (run, ablate, evaluate, report, rerank, infer, validate, doctor):
    app.command(epilog=command.EPILOG)(getattr(command, command.__name__.rpartition(".")[2]))
app.add_typer(data.app, name="data")
