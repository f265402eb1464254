"""Who rated what, and when: review files (one JSON object a line) and ratings-only CSV files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from rlrf4rec.data.amazon.vintages import (
    HEADER_2023,
    USER_FIRST,
    VINTAGES,
    Record,
    Vintage,
    parse_record,
)
from rlrf4rec.data.lines import Block, first_lines, read_blocks
from rlrf4rec.data.raw import RawTable
from rlrf4rec.errors import DataError

SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "rating": pl.Float64,
    "timestamp": pl.Int64,
}
ASIN_LENGTH = 10
# Lines that are looked at to tell which column of a CSV without a header holds the items.
SEEN_LINES = 1000

EXPECTED_JSON = "one review as a JSON object"
EXPECTED_CSV = "four fields (user, item, rating, time) separated by commas"

# What is wrong with a line; None where it is as it should be.
Fault = Callable[[bytes], str | None]


def is_csv(path: Path) -> bool:
    """Whether a file's name ends in ``.csv`` or ``.csv.gz``."""
    return path.name.lower().removesuffix(".gz").endswith(".csv")


def possible_years(path: Path) -> set[int]:
    """The vintages whose format a review file may have, told from its first lines.

    Raises:
        DataError: an unreadable or empty file, or lines of no known format.
    """
    if is_csv(path):
        return _years_of_csv(first_lines(path, SEEN_LINES))
    line = first_lines(path, 1)[0]
    try:
        record = parse_record(line)
    except ValueError as error:
        raise Block(path, 1, line).broken(1, line, EXPECTED_JSON, str(error)) from error
    years = {
        year for year, vintage in VINTAGES.items() if {vintage.user, vintage.item} <= {*record}
    }
    if not years:
        raise DataError(
            "reviews with reviewerID and asin (2014, 2018) or user_id and parent_asin (2023)",
            found=f"{path}, line 1, with {', '.join(map(repr, record)) or 'no keys'}",
            remedy="Take the review file as it is published.",
        )
    return years


def read_reviews(path: Path, vintage: Vintage) -> RawTable:
    """``user_id``, ``item_id``, ``rating``, ``timestamp`` of every review, in the file's order.

    Review texts are never held: the file is read block by block and only these fields are kept.
    A field that is absent or null is null here; `cleaning` drops and counts it.

    Raises:
        DataError: a broken line, named with its file and number.
    """
    read = _read_csv_block if is_csv(path) else _read_json_block
    frames = [read(block, vintage) for block in read_blocks(path)]
    return RawTable(path, pl.concat([pl.DataFrame(schema=SCHEMA), *frames]))


def _read_json_block(block: Block, vintage: Vintage) -> pl.DataFrame:
    names = dict(
        zip((vintage.user, vintage.item, vintage.rating, vintage.time), SCHEMA, strict=True)
    )

    def fault(line: bytes) -> str | None:
        try:
            return _wrong_field(parse_record(line), vintage)
        except ValueError as error:
            return str(error)

    def read(data: bytes) -> pl.DataFrame:
        schema = {key: SCHEMA[name] for key, name in names.items()}
        if data.lstrip().startswith(b"{'"):
            records = [parse_record(line) for _, line in block.lines()]
            return pl.DataFrame(
                [{key: record.get(key) for key in schema} for record in records], schema=schema
            )
        return pl.read_ndjson(data, schema=schema)

    frame = _checked(block, read, fault, EXPECTED_JSON)
    return frame.select(pl.col(key).alias(name) for key, name in names.items())


def _read_csv_block(block: Block, vintage: Vintage) -> pl.DataFrame:
    columns = vintage.ratings_only
    if block.first_line == 1 and block.data.lstrip().startswith(HEADER_2023):
        columns = USER_FIRST  # as the header says
        end = block.data.find(b"\n") + 1 or len(block.data)
        block = Block(block.path, 2, block.data[end:])

    def fault(line: bytes) -> str | None:
        fields = line.split(b",")
        if len(fields) != len(columns):
            return f"{len(fields)} fields"
        return _wrong_number(dict(zip(columns, fields, strict=True)))

    def read(data: bytes) -> pl.DataFrame:
        return pl.read_csv(
            data,
            has_header=False,
            quote_char=None,
            schema={name: SCHEMA[name] for name in columns},
            raise_if_empty=False,
        )

    return _checked(block, read, fault, EXPECTED_CSV).select(*SCHEMA)


def _checked(
    block: Block, read: Callable[[bytes], pl.DataFrame], fault: Fault, expected: str
) -> pl.DataFrame:
    """A block's rows, one a line; what the fast reader stumbles over is looked at line by line."""
    text = block.text()
    try:
        frame = read(text)
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise _first_fault(block, fault, expected, str(error)) from error
    if frame.height == text.count(b"\n") and not any(frame.null_count().row(0)):
        return frame
    lines = list(block.lines())
    if frame.height != len(lines):
        why = f"{frame.height} records in {len(lines)} lines"
        raise _first_fault(block, fault, expected, why)
    # A null may be an absent value, or one that the reader could not take.
    gaps = frame.select(pl.any_horizontal(pl.all().is_null())).to_series().arg_true()
    for number, line in (lines[row] for row in gaps):
        why_not = fault(line)
        if why_not is not None:
            raise block.broken(number, line, expected, why_not)
    return frame


def _first_fault(block: Block, fault: Fault, expected: str, reason: str) -> DataError:
    """The error for a block that cannot be read; ``reason`` where no line alone is at fault."""
    for number, line in block.lines():
        why = fault(line)
        if why is not None:
            return block.broken(number, line, expected, why)
    number, line = next(block.lines(), (block.first_line, b""))
    return block.broken(number, line, expected, f"in this or a later line, {reason}")


def _wrong_field(record: Record, vintage: Vintage) -> str | None:
    kinds: dict[str, tuple[type, ...]] = {
        vintage.user: (str,),
        vintage.item: (str,),
        vintage.rating: (int, float),
        vintage.time: (int,),
    }
    for key, kind in kinds.items():
        value = record.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            return f"{key!r} is {value!r}"
    return None


def _wrong_number(fields: dict[str, bytes]) -> str | None:
    for name, kind in (("rating", float), ("timestamp", int)):
        try:
            kind(fields[name] or b"0")
        except ValueError:
            return f"{name} {fields[name].decode('utf-8', 'replace')!r}"
    try:
        b"".join(fields.values()).decode("utf-8")
    except UnicodeDecodeError as error:
        return str(error)
    return None


def _years_of_csv(lines: list[bytes]) -> set[int]:
    """Item ids all have ten characters; user ids are longer, rarely one has ten, too."""
    if lines[0] == HEADER_2023:
        return {2023}
    rows = [fields for line in lines if len(fields := line.split(b",")) == len(SCHEMA)]
    items = [all(len(fields[place]) == ASIN_LENGTH for fields in rows) for place in (0, 1)]
    if items == [True, False]:
        return {2018}
    if items == [False, True]:
        return {2014, 2023}
    return {*VINTAGES}
