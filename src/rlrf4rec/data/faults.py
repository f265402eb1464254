"""What is wrong with a file that cannot be read as a table, and in which row or part."""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import polars as pl

# What files of other formats begin with.
_BEGINNINGS = {
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"PAR1": "a Parquet file; call it .parquet",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"{": "JSON",
    b"[{": "JSON",
}


def other_format(path: Path) -> str | None:
    """What a file is that should be a CSV file in UTF-8, told by its first bytes; None: text."""
    with path.open("rb") as file:
        beginning = file.read(4)
    for known, what in _BEGINNINGS.items():
        if beginning.startswith(known):
            return what
    return None


def unlike_parts(parts: Sequence[Path]) -> str | None:
    """The first of several Parquet files that is none, or has other columns or types than the
    first one; None: they are alike.
    """
    first: dict[str, pl.DataType] | None = None
    for part in parts:
        try:
            schema = pl.read_parquet_schema(part)
        except (pl.exceptions.PolarsError, OSError):
            return f"{part.name} is no Parquet file"
        first = schema if first is None else first
        for column in {**first, **schema}:
            types = [str(known.get(column, "missing")) for known in (first, schema)]
            if types[0] != types[1]:
                where = f"{types[0]} in {parts[0].name}, {types[1]} in {part.name}"
                return f"column {column!r}: {where}"
    return None


def first_bad_row(path: Path, separator: str) -> str | None:
    """The first row with more fields than the header, a quote where none may be or none that ends
    a field, or a character that is not UTF-8.

    Rows are counted from 1, the header; a quoted field may hold line breaks. None: no such row.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    row = 0
    try:
        header: list[str] | None = None
        for row, (line, fields) in enumerate(_records(path, separator), start=1):
            header = fields if header is None else header
            if len(fields) > len(header):
                return f"row {row}: {len(fields)} fields, the header has {len(header)}"
            loose = _loosely_quoted(line, fields, separator)
            if loose is not None:
                return f"row {row}: a quote within a field that is not quoted, {loose[:80]!r}"
    except UnicodeDecodeError:
        return _first_foreign_line(path)
    except csv.Error as error:
        return f"row {row + 1}: {error}"
    except (OSError, EOFError):
        return None
    return None


def _first_foreign_line(path: Path) -> str | None:
    """The first line that is not UTF-8, and how to read it."""
    with _open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                bad = line[max(error.start - 20, 0) : error.end + 20]
                return f"line {number}: not UTF-8, {bad.decode('latin-1').strip()!r} in Latin-1"
    return None


def _open(path: Path, mode: str, **how: str) -> IO[Any]:
    opened: Callable[..., IO[Any]] = gzip.open if path.suffix.lower() == ".gz" else open
    return opened(path, mode, **how)


def _records(path: Path, separator: str) -> Iterator[tuple[str, list[str]]]:
    """Each record as it stands in the file, and its fields."""
    with _open(path, "rt", encoding="utf-8-sig", newline="") as file:
        lines: list[str] = []

        def kept() -> Iterator[str]:
            for line in file:
                lines.append(line)
                yield line

        # Strict: a field that a quote begins ends with one, and not with the file.
        for fields in csv.reader(kept(), delimiter=separator, strict=True):
            yield "".join(lines), fields
            lines.clear()


def _loosely_quoted(line: str, fields: list[str], separator: str) -> str | None:
    """A field of a record that holds a quote and does not begin with one."""
    if '"' not in line:
        return None
    starts = f"{separator}{line}"
    for field in fields:
        if '"' in field and f"{separator}{field}" in starts:
            return field
    return None
