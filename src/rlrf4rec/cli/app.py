"""The commands together, and what happens when one of them fails."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

import rlrf4rec
from rlrf4rec.cli import (
    ablate,
    data,
    doctor,
    evaluate,
    export,
    infer,
    report,
    rerank,
    run,
    validate,
)
from rlrf4rec.cli.console import show_error
from rlrf4rec.errors import FULL_DISK, RLRF4RecError

USER_ERROR = 2
_SIGNALLED = 128  # and the signal's number: as shells report a process that it ended

EPILOG = """\b
Examples:
  rlrf4rec doctor
  rlrf4rec run configs/demo.yaml
  rlrf4rec report runs/demo
  rlrf4rec rerank runs/demo --input lists.jsonl
"""


class Stopped(KeyboardInterrupt):
    """The process was asked to end; what knows of Ctrl-C cleans up for this, too."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Raise `Stopped` where SIGTERM or SIGHUP would end the process; one ignored stays so."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    ours = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


class Guarded(TyperGroup):
    """Turns errors that a user can mend, and signals, into a message and an exit code."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's is click's
        try:
            with _stopped_by_signals():
                return super().invoke(ctx)
        except RLRF4RecError as error:
            show_error(error)
            raise typer.Exit(USER_ERROR) from error
        except MemoryError as error:
            show_error(_out_of_memory(error))
            raise typer.Exit(USER_ERROR) from error
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            show_error(_disk_full(error))
            _drop_unwritten_output()
            raise typer.Exit(USER_ERROR) from error
        except KeyboardInterrupt as error:
            typer.echo("\nstopped; run again to go on", err=True)
            number = error.number if isinstance(error, Stopped) else signal.SIGINT
            raise typer.Exit(_SIGNALLED + number) from error


def _out_of_memory(error: MemoryError) -> RLRF4RecError:
    return RLRF4RecError(
        "enough memory",
        found=str(error) or "none left",
        remedy="Lower machine.processes or machine.kv_cache_gb, or use a larger machine, and run "
        "again: finished work is kept.",
    )


def _disk_full(error: OSError) -> RLRF4RecError:
    return RLRF4RecError(
        "room to write to",
        found=str(error),
        remedy="Free some space, or write elsewhere, and run again: finished work is kept.",
    )


def _drop_unwritten_output() -> None:
    """Leave Python nothing to write to stdout at its end, where that would fail once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


for command in (run, ablate, evaluate, report, rerank, infer, export, validate, doctor):
    app.command(epilog=command.EPILOG)(getattr(command, command.__name__.rpartition(".")[2]))
app.add_typer(data.app, name="data")
