"""Files as they stand, before any check of their values: what every source hands to `cleaning`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import polars as pl

from rlrf4rec.data.faults import first_bad_row, other_format, unlike_parts
from rlrf4rec.errors import DataError

PARQUET = (".parquet", ".pq")

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


@dataclass(frozen=True)
class RawTable:
    """A file's rows in the file's order, none left out, so that a row can be named in an error.

    Attributes:
        path: the file.
        frame: its columns, under the names `cleaning` knows (``user_id``, ``rating``, …). Values
            are taken by `column`, which also knows how to get those that are not in memory.
        first_row: the file's number of the frame's first row: 2 below a header, else 1.
        names: what a column is called in the file, where that differs.
    """

    path: Path
    frame: pl.DataFrame
    first_row: int = 1
    names: Mapping[str, str] = field(default_factory=dict)

    def place(self, index: int, column: str) -> str:
        """File, row, column and value of one cell, for an error message."""
        value = str(self.column(column)[index])
        shown = value if len(value) <= 80 else value[:77] + "..."
        name = self.names.get(column, column)
        return f"{self.path}, row {self.first_row + index}, column {name!r}, value {shown!r}"

    @property
    def height(self) -> int:
        """The number of rows."""
        return self.frame.height

    def column(self, name: str) -> pl.Series:
        """One column's values."""
        return self.frame[name]

    def select(self, names: Mapping[str, str]) -> RawTable:
        """Some columns under known names: known name to the file's name."""
        return replace(self, frame=_select(self.frame, names), names=names)


@dataclass(frozen=True)
class StoredTable(RawTable):
    """A file whose columns are read when asked for, and not kept.

    A large log's ids are coded one column after the other: as text they would need several times
    the memory of everything else.

    Attributes:
        frame: the columns' names and types, without rows.
        stored: the file's columns.
        rows: their length.
    """

    stored: pl.LazyFrame = field(default_factory=pl.LazyFrame)
    rows: int = 0

    @property
    def height(self) -> int:
        return self.rows

    def column(self, name: str) -> pl.Series:
        """Read one column.

        Raises:
            DataError: unreadable content.
        """
        with _readable(self.path):
            return self.stored.select(name).collect().to_series()

    def select(self, names: Mapping[str, str]) -> StoredTable:
        return replace(
            self,
            frame=_select(self.frame, names),
            stored=_select(self.stored, names),
            names=names,
        )


def _select(frame: Frame, names: Mapping[str, str]) -> Frame:
    return frame.select(pl.col(name).alias(known) for known, name in names.items())


@dataclass(frozen=True)
class RawLog:
    """A source's three tables.

    Attributes:
        name: what the source calls itself.
        interactions: ``user_id``, ``item_id`` and, where the source has them, ``rating``,
            ``timestamp`` and ``position``; without the last two, the file's order is the order.
        items: ``item_id``, ``title``, ``details``.
        users: ``user_id``, ``profile``; None where nothing is known of the users.
        dropped: how many rows the source itself left out, by reason.
    """

    name: str
    interactions: RawTable
    items: RawTable
    users: RawTable | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)


def require_file(path: Path) -> None:
    """Raise `DataError` unless the path is a file."""
    if not path.is_file():
        what = "a folder without Parquet files" if path.is_dir() else "nothing there"
        raise DataError(
            f"a file at {path}",
            found=what,
            remedy="Check the path in the data section of the configuration; a relative path is "
            "taken from the configuration file's folder, with --set from the working directory.",
        )


def _require_table(path: Path) -> None:
    """`require_file`, but for a folder of Parquet files."""
    if not (path.is_dir() and _parts(path)):
        require_file(path)


def _parts(folder: Path) -> list[Path]:
    """The Parquet files of a folder and of its partitions (``month=5/``), as Spark writes them, in
    the order of their paths.
    """
    return sorted(
        part
        for part in folder.rglob("*")
        if part.is_file()
        and _is_parquet(part)
        and all("=" in name for name in part.relative_to(folder).parts[:-1])
    )


def open_table(path: Path) -> RawTable:
    """As `read_table`, but no column's values are kept; they are read when they are asked for.

    Raises:
        DataError: see `read_table`; of a Parquet file a column's content is first looked at when it
            is read.
    """
    _require_table(path)
    with _readable(path):
        stored = _scan(path)
        frame = pl.DataFrame(schema=stored.collect_schema())
        wanted = [pl.len().alias("rows")]
        if not _is_parquet(path):
            # A row with too many fields only shows where every field is read.
            wanted.append(pl.all().null_count().name.prefix("gaps in "))
        rows = stored.select(wanted).collect(engine="streaming")["rows"].item()
    if not rows:
        raise _no_rows(path)
    return StoredTable(path, frame, _first_row(path), stored=stored, rows=rows)


def read_table(path: Path) -> RawTable:
    """Read a Parquet file (``.parquet``, ``.pq``) or a folder of such, a TSV (``.tsv``) or a CSV
    (any other name), the last two also with ``.gz`` behind.

    Text files are read as UTF-8 and every column as text, so that an id such as ``007`` survives.

    Raises:
        DataError: no such file, unreadable content, or no rows.
    """
    _require_table(path)
    with _readable(path):
        table = RawTable(path, _scan(path).collect(), _first_row(path))
    if not table.height:
        raise _no_rows(path)
    return table


def _scan(path: Path) -> pl.LazyFrame:
    # A path is the name of one file, also where it holds a star or brackets.
    if _is_parquet(path):
        return pl.scan_parquet(_parts(path) if path.is_dir() else path, glob=False)
    format_found = other_format(path)
    if format_found:
        raise _unreadable(path, format_found)
    return pl.scan_csv(path, separator=_separator(path), infer_schema=False, glob=False)


def _separator(path: Path) -> str:
    return "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in PARQUET or path.is_dir()


def _first_row(path: Path) -> int:
    """Below a text file's header."""
    return 1 if _is_parquet(path) else 2


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what polars says of a broken or empty file into a `DataError`."""
    try:
        yield
    except pl.exceptions.NoDataError as error:
        raise _no_rows(path) from error
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().partition("\n")[0]
        if path.is_dir():
            reason = unlike_parts(_parts(path)) or reason
        elif not _is_parquet(path):
            reason = first_bad_row(path, _separator(path)) or reason
        raise _unreadable(path, reason) from error


def _unreadable(path: Path, found: str) -> DataError:
    if _is_parquet(path):
        return DataError(
            "a readable Parquet file, or a folder of such with the same columns of the same types",
            found=f"{path}: {found}",
            remedy="Write the file again, or all files of the folder with one schema.",
        )
    return DataError(
        "a readable CSV (UTF-8, comma, one header row) or Parquet file",
        found=f"{path}: {found}",
        remedy="Mend the file, or save it again in one of these formats. In a CSV file a field "
        "with a comma, a quote or a line break stands in quotes, and its own quotes twice.",
    )


def read_delimited(
    path: Path, separator: str, columns: list[str] | None = None, *, encoding: str = "utf-8"
) -> RawTable:
    """Read lines cut at a separator of any length; quote characters are plain data.

    Args:
        path: the file.
        separator: for example a tab, ``|`` or ``::``.
        columns: names of the fields; None: the first line names them.
        encoding: of the file.

    Raises:
        DataError: no such file, wrong encoding, no rows, or a row with another number of fields.
    """
    require_file(path)
    try:
        # Not splitlines(): in Latin-1 it would also cut at U+0085.
        lines = path.read_bytes().decode(encoding).removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"text in {encoding}",
            found=f"{path}: {error}",
            remedy="Take the file from the original archive.",
        ) from error
    while lines and not lines[-1].strip("\r"):
        lines.pop()
    first_row = 1
    if columns is None and lines:
        columns = lines.pop(0).rstrip("\r").split(separator)
        first_row = 2
    if not lines or columns is None:
        raise _no_rows(path)
    fields = pl.Series(lines, dtype=pl.String).str.strip_chars_end("\r").str.split(separator)
    wrong = (fields.list.len() != len(columns)).arg_true()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{len(columns)} fields in every row ({', '.join(columns)})",
            found=f"{path}, row {first_row + row}: {len(fields[row])} fields",
            remedy="Mend the row, or take the file from the original archive.",
        )
    frame = fields.list.to_struct(fields=columns).struct.unnest()
    return RawTable(path, frame, first_row)


def require_columns(table: RawTable, wanted: Mapping[str, str], section: str) -> None:
    """Check that a table has the columns a setting names.

    Args:
        table: the table as read.
        wanted: setting to column name, for example ``{"user": "user_id"}``.
        section: where the settings stand, for example ``data.columns``.

    Raises:
        DataError: naming all missing columns, those that are there, and the nearest names.
    """
    present = table.frame.columns
    missing = {setting: name for setting, name in wanted.items() if name not in present}
    if not missing:
        return
    hints = [_hint(setting, name, present, section) for setting, name in missing.items()]
    other = next((mark for mark in ";\t|" if len(present) == 1 and mark in present[0]), None)
    if other is not None:
        hints = [f"Its fields seem to be separated by {other!r}: save it with commas."]
    raise DataError(
        f"columns {', '.join(repr(name) for name in wanted.values())} in {table.path}",
        found=f"no {', '.join(repr(name) for name in missing.values())} among the columns "
        f"{', '.join(repr(name) for name in present)}",
        remedy=" ".join(hints),
    )


def _hint(setting: str, name: str, present: list[str], section: str) -> str:
    folded = {column.strip().lower(): column for column in present}
    near = difflib.get_close_matches(name.strip().lower(), folded, n=1)
    suggestion = f" {section}.{setting}: {folded[near[0]]!r} is the nearest name." if near else ""
    return f"Set {section}.{setting} to the column that holds it.{suggestion}"


def _no_rows(path: Path) -> DataError:
    return DataError(
        f"at least one row in {path}",
        found="an empty table",
        remedy="Check that the file was written completely.",
    )
