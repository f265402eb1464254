"""A source's interactions as numbers, each user's in their order, without what cannot be used.

Whatever is done to ids is done once for each distinct one, and columns are read one after the
other: a log of 20 million rows has to fit into the memory of a small machine, next to its result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from rlrf4rec.data.ordering import Values, sort_within
from rlrf4rec.data.parsing import (
    id_texts,
    id_values,
    parse_integers,
    parse_numbers,
    parse_times,
)
from rlrf4rec.data.raw import RawTable
from rlrf4rec.data.steps import Counts, count, number
from rlrf4rec.records import BoolArray

# By what a user's interactions are ordered, and how it is read; without any: the file's order.
ORDER = {"timestamp": parse_times, "position": parse_integers}

_PIECE = 1_000_000


@dataclass(frozen=True)
class Log:
    """Interactions before it is known which users stay.

    Attributes:
        rows: ``user`` i32, ``item`` i32, ``rating`` f32; sorted by user, oldest first.
        user_ids: the ids of the users.
    """

    rows: pl.DataFrame
    user_ids: pl.Series


def clean_interactions(table: RawTable, items: pl.DataFrame, dropped: Counts) -> Log:
    """Leave out what is missing, unknown or repeated, and order each user's rows.

    Args:
        table: the log as read, ``n`` rows.
        items: the catalogue: ``item``, ``item_id``.
        dropped: how much was left out, by reason; is added to.

    Raises:
        DataError: a value that is of the wrong type or cannot be read.
    """
    kept = np.ones(table.height, dtype=np.bool_)
    users, missing = _group_by_user(table)
    _leave_out(kept, missing, "missing user id", dropped)
    item, missing, unknown = _find_items(table, items)
    _leave_out(kept, missing, "missing item id", dropped)
    columns = {"item": item}
    infinite = None
    if "rating" in table.frame.columns:
        # To f32 before the check: 1e300 is finite as f64 only.
        rating = parse_numbers(table, "rating").cast(pl.Float32)
        infinite = ~rating.is_finite()
        columns["rating"] = _present(rating, "rating", kept, dropped)
    keys = [
        _present(parse(table, column), column, kept, dropped)
        for column, parse in ORDER.items()
        if column in table.frame.columns
    ]
    if infinite is not None:
        _leave_out(kept, infinite.fill_null(False).to_numpy(), "non-finite rating", dropped)
    _leave_out(kept, unknown, "item not in catalogue", dropped)
    user, row = _kept_rows(users, kept)
    row, again = _order(user, row, columns, keys)
    reason = "duplicate row" if keys else "duplicate row (no time or position tells it apart)"
    count(int(again.sum()), reason, dropped)
    if again.any():
        user, row = user[~again], row[~again]
    rows = pl.DataFrame({"user": user, **{name: of[row] for name, of in columns.items()}})
    if infinite is None:
        rows = rows.with_columns(rating=pl.lit(None, dtype=pl.Float32))
    return Log(rows, users["user_id"])


def first_of_repeats(log: Log, dropped: Counts) -> Log:
    """The earliest interaction of each user and item."""
    distinct = log.rows.unique(["user", "item"], keep="first", maintain_order=True)
    reason = "later interaction with the same item (data.repeats)"
    count(log.rows.height - distinct.height, reason, dropped)
    return Log(distinct, log.user_ids)


def renumber(numbers: pl.Series, before: pl.Series, after: pl.Series) -> pl.Series:
    """Numbers in another numbering, i32; null where a number does not occur in ``before``."""
    size = max(int(part.to_numpy().max()) + 1 if len(part) else 0 for part in (numbers, before))
    table = np.full(size, -1, dtype=np.int32)
    table[before.to_numpy()] = after.to_numpy()
    renumbered = pl.Series(numbers.name, table[numbers.to_numpy()])
    return renumbered.set(renumbered < 0, None) if (table < 0).any() else renumbered


def _group_by_user(table: RawTable) -> tuple[pl.DataFrame, BoolArray]:
    """``user``, ``user_id``, ``row`` (a list, ascending); and which rows ``[n]`` have no user."""
    # In one piece: grouping would make that too, and keep the file's pieces beside it.
    users = pl.DataFrame({"stored": id_values(table, "user_id").rechunk()}).with_row_index("row")
    users = users.group_by("stored").agg("row")
    users = users.select("row", user_id=id_texts(users["stored"]))
    missing = np.zeros(table.height, dtype=np.bool_)
    missing[_flat(users.filter(pl.col("user_id").is_null()))] = True
    return number(users.drop_nulls("user_id"), "user"), missing


def _flat(users: pl.DataFrame) -> Values:
    # Of no lists at all, polars would make one null.
    return users["row"].explode().to_numpy() if users.height else np.empty(0, dtype=np.uint32)


def _find_items(table: RawTable, items: pl.DataFrame) -> tuple[Values, BoolArray, BoolArray]:
    """Each row's item, 0 where there is none; which rows miss the id; of which it is unknown."""
    values = id_values(table, "item_id")
    known = items.select("item", stored="item_id")
    if values.dtype != pl.String:
        distinct = values.unique()
        texts = pl.DataFrame({"stored": distinct, "item_id": id_texts(distinct)})
        known = texts.join(items, on="item_id").select("item", "stored")
    # Piece by piece: what a join needs besides its result is as large as the column.
    item = pl.concat(
        piece.join(known, on="stored", how="left", maintain_order="left")["item"]
        for piece in values.to_frame("stored").iter_slices(_PIECE)
    )
    nowhere = item.is_null().arg_true()
    blank = id_texts(values.gather(nowhere)).is_null()
    missing, unknown = np.zeros((2, len(item)), dtype=np.bool_)
    missing[nowhere.filter(blank).to_numpy()] = True
    unknown[nowhere.filter(~blank).to_numpy()] = True
    return item.fill_null(0).to_numpy(), missing, unknown


def _present(values: pl.Series, name: str, kept: BoolArray, dropped: Counts) -> Values:
    """The values; rows without one are left out of ``kept``."""
    if values.null_count():
        _leave_out(kept, values.is_null().to_numpy(), f"missing {name}", dropped)
        # With a value that is there: the range of the column tells how it is sorted.
        values = values.fill_null(strategy="min").fill_null(0)
    return values.to_numpy()


def _leave_out(kept: BoolArray, bad: BoolArray, reason: str, dropped: Counts) -> None:
    count(int((kept & bad).sum()), reason, dropped)
    np.greater(kept, bad, out=kept)


def _kept_rows(users: pl.DataFrame, kept: BoolArray) -> tuple[Values, Values]:
    """The users' rows that are kept, sorted by user and row: user i32, row u32."""
    row = _flat(users)
    stays = kept[row]
    user = np.repeat(users["user"].to_numpy(), users["row"].list.len().to_numpy())
    return user[stays], row[stays]


def _order(
    user: Values, row: Values, columns: dict[str, Values], keys: list[Values]
) -> tuple[Values, BoolArray]:
    """Each user's rows in their order; and which of them repeat an earlier one.

    Only rows that tie can be the same, so only these are compared in full. Without keys the order
    stays, and rows tie that have the same item.

    Args:
        user: ``[k]``, sorted.
        row: ``[k]``, numbers of rows, ascending within the user.
        columns: what else makes a row, of all rows ``[n]``.
        keys: what orders a user's rows, of all rows ``[n]``; none: their number.
    """
    if keys:
        row, tied, run = sort_within(user, row, keys)
    else:
        place, tied, run = sort_within(
            user, np.arange(len(row), dtype=np.uint32), [columns["item"][row]]
        )
        tied = place[tied]
    parts = [run, *(part[row[tied]] for part in (*columns.values(), *keys))]
    ties = pl.DataFrame({str(place): part for place, part in enumerate(parts)})
    first = ties.with_row_index().unique(ties.columns, keep="first")["index"].to_numpy()
    again = np.zeros(len(row), dtype=np.bool_)
    again[tied] = True
    again[tied[first]] = False
    return row, again
