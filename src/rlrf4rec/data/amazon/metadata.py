"""What an item is: its title, and its maker and category as one line of details."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from rlrf4rec.data.amazon.vintages import Record, Vintage, parse_record
from rlrf4rec.data.lines import Block, first_lines, read_blocks
from rlrf4rec.data.raw import RawTable
from rlrf4rec.errors import DataError

EXPECTED = "one item as a JSON object or a Python dict literal"

MAX_TITLE = 150  # characters, as KAR's code
MAX_PART = 60  # characters of a maker or a category level (ours)
N_LEVELS = 2  # the last levels of the category path (ours)

# Raw pages run to many kilobytes; nothing past this length can reach a text.
_MAX_RAW = 10_000
_ID = re.compile(rb"""["'](?:parent_)?asin["']\s*:\s*["']([^"']*)["']""")
_SCRIPT = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z!][^<>]*>")
# Some titles of 2018 are the page's own script: "var aPageStart = (new Date()).getTime();".
_CODE = re.compile(r"getTime\(\)|function\s*\(")
_AUTHOR_PAGE = re.compile(r"^Visit Amazon's (.+?) Page$")


def year_of_metadata(path: Path) -> int:
    """The vintage of a metadata file, told from its first line.

    Raises:
        DataError: an unreadable or empty file, or a line of no known format.
    """
    line = first_lines(path, 1)[0]
    record = _record(Block(path, 1, line), 1, line)
    if "parent_asin" in record:
        return 2023
    if "asin" in record:
        return 2014 if line.startswith(b"{'") or "categories" in record else 2018
    raise DataError(
        "items with an asin (2014, 2018) or a parent_asin (2023)",
        found=f"{path}, line 1, with {', '.join(map(repr, record)) or 'no keys'}",
        remedy="Take the metadata file as it is published.",
    )


def read_items(path: Path, vintage: Vintage, wanted: pl.Series) -> tuple[RawTable, int]:
    """``item_id``, ``title``, ``details`` of the wanted items, and how many lines were repeats.

    Lines of other items are skipped unread. An item without a usable title has an empty one.

    Args:
        path: the metadata file.
        vintage: whose format it has.
        wanted: ids of the items in the log.

    Raises:
        DataError: a broken line, named with its file and number.
    """
    wanted_ids = {item_id.encode() for item_id in wanted.drop_nulls().unique()}
    rows: dict[str, tuple[str, str]] = {}
    repeats = 0
    for record in _records_of(path, wanted_ids):
        item_id = record.get(vintage.item)
        if not isinstance(item_id, str) or item_id.encode() not in wanted_ids:
            continue
        if item_id in rows:
            repeats += 1
            continue
        rows[item_id] = item_title(record), item_details(record, vintage)
    frame = pl.DataFrame(
        {
            "item_id": list(rows),
            "title": [title for title, _ in rows.values()],
            "details": [details for _, details in rows.values()],
        },
        schema={"item_id": pl.String, "title": pl.String, "details": pl.String},
    )
    return RawTable(path, frame, names={"item_id": vintage.item}), repeats


def item_title(record: Record) -> str:
    """The title as plain text of at most 150 characters; empty where the title is a script."""
    title = record.get("title")
    if isinstance(title, str) and _CODE.search(title):
        return ""
    return _shortened(_plain(title), MAX_TITLE)


def item_details(record: Record, vintage: Vintage) -> str:
    """Maker and last category levels: ``J. R. R. Tolkien; Fantasy, Epic``.

    The category's first level is left out: all items of a file share it.
    """
    maker = _AUTHOR_PAGE.sub(r"\1", _plain(record.get(vintage.maker)))
    levels = [_shortened(_plain(level), MAX_PART) for level in _path(record, vintage)[1:]]
    parts = [
        _shortened(maker, MAX_PART),
        ", ".join([level for level in levels if level][-N_LEVELS:]),
    ]
    return "; ".join(part for part in parts if part)


def _path(record: Record, vintage: Vintage) -> list[object]:
    """The category path; of several (2014) the first."""
    path = record.get(vintage.categories)
    if isinstance(path, list) and path and isinstance(path[0], list):
        path = path[0]
    return path if isinstance(path, list) else []


def _plain(text: object) -> str:
    """Text without HTML, entities, line breaks; empty where it is no text."""
    if not isinstance(text, str):
        return ""
    text = _SCRIPT.sub(" ", html.unescape(text[:_MAX_RAW]))
    return " ".join(_TAG.sub(" ", text).split())


def _shortened(text: str, limit: int) -> str:
    """At most ``limit`` characters, cut between words where there is a gap."""
    if len(text) <= limit:
        return text
    return text[: limit + 1].rpartition(" ")[0] or text[:limit]


def _records_of(path: Path, wanted: set[bytes]) -> Iterator[Record]:
    """The lines that may describe a wanted item; whoever quotes an id may be a false alarm."""
    for block in read_blocks(path):
        for number, line in block.lines():
            named = _ID.findall(line)
            if not named or not wanted.isdisjoint(named):
                yield _record(block, number, line)


def _record(block: Block, number: int, line: bytes) -> Record:
    try:
        return parse_record(line)
    except ValueError as error:
        raise block.broken(number, line, EXPECTED, str(error)) from error
