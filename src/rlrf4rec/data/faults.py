"""What is wrong with a text file that cannot be read as a table, and in which row."""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

# What files of other formats begin with.
_BEGINNINGS = {
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"PAR1": "a Parquet file; call it .parquet",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}


def other_format(path: Path) -> str | None:
    """What a file is that should be a CSV file in UTF-8, told by its first bytes; None: text."""
    with path.open("rb") as file:
        beginning = file.read(4)
    for known, what in _BEGINNINGS.items():
        if beginning.startswith(known):
            return what
    return None


def first_bad_row(path: Path, separator: str) -> str | None:
    """The first row with more fields than the header, or with a quote where none may be.

    Rows are counted from 1, the header; a quoted field may hold line breaks. None: no such row.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        header: list[str] | None = None
        for row, (line, fields) in enumerate(_records(path, separator), start=1):
            header = fields if header is None else header
            if len(fields) > len(header):
                return f"row {row}: {len(fields)} fields, the header has {len(header)}"
            loose = _loosely_quoted(line, fields, separator)
            if loose is not None:
                return f"row {row}: a quote within a field that is not quoted, {loose[:80]!r}"
    except (OSError, EOFError, UnicodeDecodeError, csv.Error):
        return None
    return None


def _records(path: Path, separator: str) -> Iterator[tuple[str, list[str]]]:
    """Each record as it stands in the file, and its fields."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        lines: list[str] = []

        def kept() -> Iterator[str]:
            for line in file:
                lines.append(line)
                yield line

        for fields in csv.reader(kept(), delimiter=separator):
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
