"""Columns of unknown type to ids, numbers and times; the first bad value is named with its row."""

from __future__ import annotations

import polars as pl

from rlrf4rec.data.raw import RawTable
from rlrf4rec.errors import DataError

ISO_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M%z",
    "%Y-%m-%dT%H:%M",
)


UNITS = (10**9, 10**12, 10**15, 10**18)
"""2001 in seconds since 1970, in milli-, micro- and nanoseconds; our time is up to four of each."""


def parse_ids(table: RawTable, column: str) -> pl.Series:
    """Ids as text, untouched; null where an id is missing or blank.

    Integers become their decimal text. So do floats that hold integers only, as pandas writes an
    integer column with gaps.

    Raises:
        DataError: a type that cannot be an id.
    """
    return id_texts(id_values(table, column))


def id_values(table: RawTable, column: str) -> pl.Series:
    """Ids as they are stored, before `id_texts`: that is cheaper on each distinct one.

    Raises:
        DataError: a type that cannot be an id.
    """
    values = table.column(column)
    if values.dtype.is_float():
        _refuse(
            table,
            column,
            values.is_not_nan() & (values.is_infinite() | (values != values.floor())),
            "an id (text or a whole number)",
        )
        return _to_whole(table, column, values.fill_nan(None))
    if isinstance(values.dtype, pl.Decimal) and not values.dtype.scale:
        # As SQL exports whole numbers.
        return _to_whole(table, column, values)
    if not (
        values.dtype.is_integer() or values.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)
    ):
        raise _wrong_type(table, column, "text or whole numbers")
    return values


def id_texts(values: pl.Series) -> pl.Series:
    """What `id_values` gave as text, null where blank. Distinct values are distinct texts."""
    text = values.cast(pl.String)
    return text.set(text.str.strip_chars() == "", None)


def parse_numbers(table: RawTable, column: str) -> pl.Series:
    """Numbers as f64; null where missing or blank. NaN and infinity are numbers here.

    Raises:
        DataError: a value that is no number.
    """
    values = table.column(column)
    if values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null):
        return values.cast(pl.Float64)
    if values.dtype != pl.String:
        raise _wrong_type(table, column, "numbers")
    text = _unblank(values)
    numbers = text.cast(pl.Float64, strict=False)
    _refuse(table, column, text.is_not_null() & numbers.is_null(), "a number")
    return numbers


def parse_integers(table: RawTable, column: str) -> pl.Series:
    """Whole numbers as i64; null where missing or blank.

    Raises:
        DataError: a value that is no whole number.
    """
    values = table.column(column)
    if values.dtype.is_integer():
        return _to_whole(table, column, values)
    whole = _whole_texts(values)
    if whole is not None:
        return whole
    numbers = parse_numbers(table, column).fill_nan(None)
    _refuse(table, column, numbers.is_infinite() | (numbers != numbers.floor()), "a whole number")
    return _to_whole(table, column, numbers)


def parse_times(table: RawTable, column: str) -> pl.Series:
    """Times as numbers that keep their order (the unit is lost); null where missing.

    A column is either numbers or ISO 8601 dates; its first value decides which. Times without a
    zone count as UTC.

    Raises:
        DataError: a value that fits neither, or not the first value's kind; numbers of two units.
    """
    values = table.column(column)
    if values.dtype in (pl.Date, pl.Datetime):
        return values.to_physical().cast(pl.Int64)
    if values.dtype == pl.Boolean:
        raise _wrong_type(table, column, "times")
    if values.dtype == pl.String:
        values = _unblank(values)
        # NaN is how pandas marks a missing time, among numbers and dates alike.
        values = values.set(values.str.to_lowercase() == "nan", None)
        if values.drop_nulls().head(1).cast(pl.Float64, strict=False).null_count():
            times = _parse_iso(values)
            _refuse(table, column, values.is_not_null() & times.is_null(), "an ISO date or time")
            return times
    times = _time_numbers(table, column, values)
    _refuse_mixed_units(table, column, times)
    return times


def _time_numbers(table: RawTable, column: str, values: pl.Series) -> pl.Series:
    if values.dtype.is_integer():
        return _to_whole(table, column, values)
    whole = _whole_texts(values)
    if whole is not None:
        return whole
    return _finite_times(table, column, parse_numbers(table, column))


def _refuse_mixed_units(table: RawTable, column: str, times: pl.Series) -> None:
    """Seconds beside milliseconds, as of two exports in one file, would be sorted by their unit."""
    if not (times >= UNITS[1]).any():
        return
    found: list[int] = []
    for unit in UNITS:
        of_unit = times.is_between(unit, 4 * unit).fill_null(False)
        if of_unit.any():
            found.append(int(of_unit.arg_max() or 0))
    if len(found) > 1:
        raise DataError(
            "times in one unit",
            found=" and ".join(table.place(index, column) for index in found),
            remedy="Write all as seconds since 1970, all as milliseconds, or all as ISO dates.",
        )


def _whole_texts(values: pl.Series) -> pl.Series | None:
    """Texts that are all whole numbers, as these; else None.

    Not by way of a float, into which nanoseconds since 1970 and long ids do not fit.
    """
    if values.dtype != pl.String:
        return None
    text = _unblank(values)
    whole = text.cast(pl.Int64, strict=False)
    return whole if whole.null_count() == text.null_count() else None


def _to_whole(table: RawTable, column: str, values: pl.Series) -> pl.Series:
    """Whole numbers of any type as i64."""
    whole = values.cast(pl.Int64, strict=False)
    _refuse(table, column, values.is_not_null() & whole.is_null(), "a whole number below 2^63")
    return whole


def _finite_times(table: RawTable, column: str, numbers: pl.Series) -> pl.Series:
    """NaN is how pandas marks a missing time; infinity is no time."""
    _refuse(table, column, numbers.is_infinite(), "a finite number")
    return numbers.fill_nan(None)


def _parse_iso(text: pl.Series) -> pl.Series:
    tidy = (
        text.str.replace(r"^(\d{4}-\d{2}-\d{2})[ t]+", "${1}T")
        .str.replace(r"\s*(?:[zZ]|UTC)$", "+00:00")
        .str.replace(r"\s+([+-]\d{2}:?\d{2})$", "${1}")
        # PostgreSQL's zone, hours alone.
        .str.replace(r"(T\d{2}:\d{2}\S*[+-]\d{2})$", "${1}:00")
    )
    readings = [
        tidy.str.to_datetime(form, strict=False, time_unit="us").dt.replace_time_zone(None)
        for form in ISO_FORMATS
    ]
    readings.append(tidy.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
    return pl.select(pl.coalesce(readings)).to_series().cast(pl.Int64)


def _unblank(text: pl.Series) -> pl.Series:
    stripped = text.str.strip_chars()
    return stripped.set(stripped == "", None)


def _refuse(table: RawTable, column: str, bad: pl.Series, expected: str) -> None:
    rows = bad.fill_null(False).arg_true()
    if len(rows):
        raise DataError(
            f"{expected} in every row",
            found=f"{table.place(int(rows[0]), column)} ({len(rows)} such rows)",
            remedy="Mend or remove these rows, or name another column under data.columns.",
        )


def _wrong_type(table: RawTable, column: str, expected: str) -> DataError:
    name = table.names.get(column, column)
    return DataError(
        f"{expected} in column {name!r} of {table.path}",
        found=f"type {table.frame.schema[column]}",
        remedy="Write the column as text or numbers, or name another one under data.columns.",
    )
