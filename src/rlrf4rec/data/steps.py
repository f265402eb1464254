"""What the steps of cleaning have in common: they drop rows and count them, and number ids."""

from __future__ import annotations

import polars as pl

Counts = dict[str, int]


def number(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Sort by the id column and add the row number as column ``name``, first."""
    key = pl.col(f"{name}_id")
    if frame.select(key.str.contains(r"^[0-9]+$").all()).item():
        # By value, without a limit on the digits: first by length, then as text.
        digits = key.str.strip_chars_start("0")
        frame = frame.sort(digits.str.len_bytes(), digits, key)
    else:
        frame = frame.sort(key)
    return frame.select(pl.int_range(pl.len(), dtype=pl.Int32).alias(name), pl.all())


def drop(frame: pl.DataFrame, bad: pl.Expr, reason: str, dropped: Counts) -> pl.DataFrame:
    """The rows that are not bad; the others are counted under the reason."""
    kept = frame.filter(~bad)
    count(frame.height - kept.height, reason, dropped)
    return kept


def count(number: int, reason: str, dropped: Counts) -> None:
    """Add so many rows to a reason's count; a reason without rows is not named."""
    if number:
        dropped[reason] = dropped.get(reason, 0) + number
