"""What goes to the terminal. Text from logs and language models is shown, never interpreted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from rlrf4rec.errors import RequestError, RLRF4RecError

if TYPE_CHECKING:
    from rlrf4rec.evaluation.results import Results


def safe(text: str) -> str:
    """Foreign text with its control characters (ANSI escapes, overrides) written out."""
    from rlrf4rec.evaluation.words import visible

    return visible(text)


def show_error(error: RLRF4RecError) -> None:
    """The three parts of an error, on stderr."""
    typer.secho("error", fg=typer.colors.RED, bold=True, err=True)
    parts = {"expected": error.expected, "found": error.found, "remedy": error.remedy}
    for name, text in parts.items():
        typer.echo(f"  {name + ':':<10}{safe(text)}", err=True)


def require_run(folder: Path) -> None:
    """Refuse what is no run folder at once, before anything heavy is loaded.

    Raises:
        WorkspaceError: not a run folder.
    """
    from rlrf4rec.workspace import Workspace

    Workspace(folder).require_run()


def show_json(value: object) -> None:
    """JSON on stdout; ASCII, so that no terminal can be talked to by it."""
    typer.echo(json.dumps(value, indent=1))


def show_facts(facts: dict[str, object]) -> None:
    """Names and values on stdout, in two columns; a dict within is indented."""
    width = max(len(name) for name in facts) + 2
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            typer.echo(name)
            for inner, number in value.items():
                typer.echo(f"  {safe(str(inner))}: {_plain(number)}")
        else:
            typer.echo(f"{name:<{width}}{_plain(value)}")


def show_results(results: Results, folder: Path) -> None:
    """The results table of the main metric, and where everything is."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from rlrf4rec.evaluation import words
    from rlrf4rec.evaluation.report import main_metric
    from rlrf4rec.evaluation.results import backbones, results_table

    metric = main_metric(results)
    title = (
        f"{results.dataset}: {words.metric_label(metric)} on {results.n_lists:,} "
        f"{results.lists!r} lists of {results.n_users:,} users, ± half the 95 % interval"
    )
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("system")
    columns: list[str | None] = [*backbones(results)] or [None]
    for backbone in columns:
        table.add_column(Text(safe(words.backbone_label(backbone))), justify="right")
    for row in results_table(results, metric):
        cells = ["" if cell is None else cell.text for cell in row.cells]
        table.add_row(*(Text(safe(cell)) for cell in (words.system_label(row.system), *cells)))
    typer.echo(safe(title))
    # A pipe has no width of its own, and many rerankers do not fit into a default.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    typer.echo(f"results  {safe(str(folder / 'results.json'))}")
    typer.echo(f"report   {safe(str(folder / 'report.html'))}")


@contextmanager
def open_output(path: str) -> Iterator[TextIO]:
    """A text stream: ``-`` is stdout; a file appears when it is complete, or not at all.

    A pipe or a device is written to as it is; of a link the file that it leads to is replaced.

    Raises:
        RequestError: a file cannot be there.
    """
    if path == "-":
        yield sys.stdout
        return
    from rlrf4rec.workspace import flush, readable_os_errors

    named = Path(path)
    if not path or named.is_dir():
        raise _no_output(path, "a folder" if path else "no name")
    if named.exists() and not named.is_file():
        with named.open("w", encoding="utf-8") as stream:
            yield stream
        return
    target = named.resolve()
    aside = target.with_name(f".writing-{target.name}")
    with readable_os_errors(target.parent):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise _no_output(path, f"{error.filename} is a file") from error
        try:
            with aside.open("w", encoding="utf-8") as stream:
                yield stream
            flush(aside)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)


def _no_output(path: str, why: str) -> RequestError:
    return RequestError(
        "a file to write to", found=f"{path!r} ({why})", remedy="Name a file with --output."
    )


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple, dict)):
        return ", ".join(map(_plain, value)) or "none"
    return safe(str(value))
