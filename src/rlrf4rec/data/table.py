"""A user's own files: interactions, items and, if there are any, users, as CSV or Parquet."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rlrf4rec.config import DataConfig, TableColumns
from rlrf4rec.data.raw import RawLog, RawTable, open_table, read_table, require_columns
from rlrf4rec.errors import ConfigError, DataError


def load_table(data: DataConfig) -> RawLog:
    """Read the files that the data section names, with the columns it names.

    Raises:
        ConfigError: no interactions or no items file is set.
        DataError: a file or a column is missing, unreadable, empty or of an unusable type.
    """
    if data.interactions is None or data.items is None:
        raise ConfigError(
            "data.interactions and data.items",
            found="one of them is not set",
            remedy="Set both to the path of a CSV or Parquet file.",
        )
    columns = data.columns
    return RawLog(
        name=data.interactions.stem,
        interactions=_interactions(data.interactions, columns),
        items=_items(data.items, columns),
        users=None if data.users is None else _users(data.users, columns),
    )


def _interactions(path: Path, columns: TableColumns) -> RawTable:
    table = open_table(path)
    # Known name of a column: (setting, its name in the file).
    wanted: dict[str, tuple[str, str]] = {
        "user_id": ("user", columns.user),
        "item_id": ("item", columns.item),
    }
    optional = {
        "rating": columns.rating,
        "timestamp": columns.timestamp,
        "position": columns.position,
    }
    wanted |= {known: (known, name) for known, name in optional.items() if name is not None}
    require_columns(table, dict(wanted.values()), "data.columns")
    return table.select({known: name for known, (_, name) in wanted.items()})


def _items(path: Path, columns: TableColumns) -> RawTable:
    table = read_table(path)
    wanted = {"item": columns.item, "title": columns.title}
    wanted |= {f"details[{number}]": name for number, name in enumerate(columns.details)}
    require_columns(table, wanted, "data.columns")
    frame = table.frame.select(
        pl.col(columns.item).alias("item_id"),
        _as_text(table, columns.title).alias("title"),
        _one_line(table, columns.details).alias("details"),
    )
    return RawTable(path, frame, table.first_row, {"item_id": columns.item, "title": columns.title})


def _users(path: Path, columns: TableColumns) -> RawTable:
    table = read_table(path)
    wanted = {"user": columns.user}
    wanted |= {f"profile[{number}]": name for number, name in enumerate(columns.profile)}
    require_columns(table, wanted, "data.columns")
    frame = table.frame.select(
        pl.col(columns.user).alias("user_id"),
        _one_line(table, columns.profile).alias("profile"),
    )
    return RawTable(path, frame, table.first_row, {"user_id": columns.user})


def _one_line(table: RawTable, columns: list[str]) -> pl.Expr:
    """The columns' values joined by '; ', empty ones left out."""
    if not columns:
        return pl.lit("")
    values = [
        _as_text(table, name).str.replace_all(r"\s+", " ").str.strip_chars() for name in columns
    ]
    filled = [pl.when(value != "").then(value) for value in values]
    return pl.concat_str(filled, separator="; ", ignore_nulls=True)


def _as_text(table: RawTable, column: str) -> pl.Expr:
    dtype = table.frame.schema[column]
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    if inner.is_nested() or inner in (pl.Binary, pl.Object, pl.Duration):
        raise DataError(
            f"text or numbers in column {column!r} of {table.path}",
            found=f"type {dtype}",
            remedy="Write the column as text.",
        )
    if isinstance(dtype, pl.List):
        return pl.col(column).cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    # NaN is how pandas marks a number that is missing.
    values = pl.col(column).fill_nan(None) if dtype.is_float() else pl.col(column)
    return values.cast(pl.String)
