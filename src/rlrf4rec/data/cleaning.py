"""One path from any source's raw tables to a `Dataset`: check, drop and count, number.

What makes the log ambiguous (a rating that is no number, two catalogue rows with one id) is an
error. What is merely missing is dropped and counted in `Dataset.dropped`.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from rlrf4rec.config import Config, DataConfig, ListsConfig
from rlrf4rec.data.amazon import load_amazon
from rlrf4rec.data.interactions import Log, clean_interactions, first_of_repeats, renumber
from rlrf4rec.data.movielens import load_movielens
from rlrf4rec.data.parsing import id_texts, id_values, parse_ids
from rlrf4rec.data.raw import RawLog, RawTable
from rlrf4rec.data.seeds import sample_ids
from rlrf4rec.data.steps import Counts, count, drop, number
from rlrf4rec.data.table import load_table
from rlrf4rec.errors import DataError
from rlrf4rec.records import Dataset
from rlrf4rec.say_once import say_once

NOTABLE_LOSS = 0.05
"""Share of a log's rows that may be left out without a word."""

LOOKED_AT = 100_000
"""Rows among which an id is looked for that the catalogue lacks."""

NO_VALUE = ("nan", "NaN", "NULL", "null", "None", "<NA>", "NaT", "\\N")
"""What pandas, databases and str() write for a value that is missing."""


def load_dataset(config: Config) -> Dataset:
    """Read and clean the log that ``config.data`` names.

    Raises:
        DataError: the log or the catalogue cannot be used; the message names file, row and column.
        MissingPartError: packaged data are not installed, or a download failed.
    """
    return clean(_load_raw(config.data), config)


def _load_raw(data: DataConfig) -> RawLog:
    if data.source == "movielens":
        return load_movielens(data.path)
    return load_amazon(data) if data.source == "amazon" else load_table(data)


def clean(raw: RawLog, config: Config) -> Dataset:
    """Check a source's tables and number its users and items from 0.

    Users and items are numbered in the order of their ids: by value if all are decimal integers,
    else as text. So the numbers do not depend on the order of a file's rows.

    Raises:
        DataError: see `load_dataset`.
    """
    dropped: Counts = dict(raw.dropped)
    items = _clean_catalogue(raw.items, dropped)
    lost: Counts = {}
    log = clean_interactions(raw.interactions, items, lost)
    _say_what_is_lost(raw, items, lost)
    for reason, rows in lost.items():
        count(rows, reason, dropped)
    _count_marks(log, dropped)
    if config.data.repeats == "first":
        log = first_of_repeats(log, dropped)
    log, items = _keep_core(log, items, config.data, dropped)
    users = _choose_users(log, config, dropped)
    if not users.height:
        raise _nothing_left(raw, items, log, config.lists, dropped)
    return Dataset(
        name=config.data.name or raw.name,
        interactions=_number_interactions(log, users),
        items=items,
        users=_add_profiles(users.drop("before"), raw.users, dropped),
        dropped=dropped,
    )


def _say_what_is_lost(raw: RawLog, items: pl.DataFrame, lost: Counts) -> None:
    """A log that loses much of itself before any setting has a say is seldom meant so."""
    n_lost, n_rows = sum(lost.values()), raw.interactions.height
    if n_lost > NOTABLE_LOSS * n_rows:
        reasons = ", ".join(f"{reason}: {rows:,}" for reason, rows in lost.items())
        say_once(
            f"{n_lost:,} of {n_rows:,} rows of {raw.interactions.path} are left out ({reasons})"
            f"{_unlike_ids(raw, items, lost)}."
        )


def _unlike_ids(raw: RawLog, items: pl.DataFrame, dropped: Counts) -> str:
    """An item id of the log that the catalogue lacks, and one that it has."""
    if "item not in catalogue" not in dropped or not items.height:
        return ""
    ids = id_texts(id_values(raw.interactions, "item_id").head(LOOKED_AT)).drop_nulls()
    unknown = ids.filter(~ids.is_in(items["item_id"].implode())).head(1)
    return "".join(
        f"; item ids look like {ours!r} in the log and {items['item_id'][0]!r} in the catalogue"
        for ours in unknown
    )


def _count_marks(log: Log, dropped: Counts) -> None:
    """Ids that other programs write where there is none; here they are ids like any other."""
    for user in log.user_ids.is_in(NO_VALUE).arg_true():
        of_user = int((log.rows["user"] == user).sum())
        count(of_user, f"interaction of a user called {log.user_ids[user]!r} (kept)", dropped)


def _clean_catalogue(table: RawTable, dropped: Counts) -> pl.DataFrame:
    """``item``, ``item_id``, ``title``, ``details``."""
    frame = table.frame.with_columns(parse_ids(table, "item_id"))
    _refuse_duplicates(table, frame["item_id"], "item_id")
    frame = drop(frame, pl.col("item_id").is_null(), "catalogue row without an item id", dropped)
    untitled = pl.col("title").fill_null("").str.strip_chars() == ""
    count(frame.filter(untitled).height, "item without a title (kept)", dropped)
    frame = frame.with_columns(
        title=pl.when(untitled).then(pl.lit("item ") + pl.col("item_id")).otherwise("title"),
        details=pl.col("details").fill_null(""),
    )
    return number(frame.select("item_id", "title", "details"), "item")


def _keep_core(
    log: Log, items: pl.DataFrame, data: DataConfig, dropped: Counts
) -> tuple[Log, pl.DataFrame]:
    """The largest part of the log in which every user and every item has the fewest asked for.

    Leaving out a user can bring an item below its minimum, and the other way round: so again until
    nothing changes. Items left without interactions leave the catalogue, unless the filter is off.
    """
    least = {"item": data.min_item_interactions, "user": data.min_user_interactions}
    if max(least.values()) == 1:
        return log, items
    rows, before = log.rows, -1
    while rows.height != before:
        before = rows.height
        for column, fewest in least.items():
            rows = rows.filter(pl.len().over(column) >= fewest)
    reason = "interaction outside the core (data.min_user_interactions, min_item_interactions)"
    count(log.rows.height - rows.height, reason, dropped)
    inside = pl.col("item").is_in(rows["item"].unique().implode())
    items = drop(items, ~inside, "item outside the core", dropped).rename({"item": "before"})
    items = number(items, "item")
    rows = rows.with_columns(renumber(rows["item"], items["before"], items["item"]))
    return Log(rows, log.user_ids), items.drop("before")


def _choose_users(log: Log, config: Config, dropped: Counts) -> pl.DataFrame:
    """``user``, ``before`` (the number in the log), ``user_id`` of the users that have both
    something to read and a list to rank.
    """
    sizes = np.bincount(log.rows["user"].to_numpy(), minlength=len(log.user_ids))
    users = pl.DataFrame({"user_id": log.user_ids, "n": sizes}).with_row_index("before")
    enough = pl.col("n") >= needed_interactions(config.lists)
    left = users.filter(pl.col("n") > 0)
    users = drop(left, ~enough, "user with too little history", dropped).drop("n")
    limit = config.data.max_users
    if limit is not None and users.height > limit:
        count(users.height - limit, "user not in the sample (data.max_users)", dropped)
        users = users.filter(
            pl.col("user_id").is_in(sample_ids(users["user_id"], limit, config.seed))
        )
    return number(users, "user")


def needed_interactions(lists: ListsConfig) -> int:
    """The fewest interactions of a user with a reading history and one feedback chunk.

    Of n interactions, min(ceil(n / 2), max_reading) are read and the rest is feedback.
    """
    feedback = 1 if lists.partial_chunk else lists.chunk_size
    # ceil(n / 2) >= min_history; and floor(n / 2) >= feedback, or n - max_reading >= feedback.
    return max(2 * lists.min_history - 1, min(2 * feedback, lists.max_reading + feedback))


def _number_interactions(log: Log, users: pl.DataFrame) -> pl.DataFrame:
    """The interactions of the users, each with its position within its user."""
    rows = log.rows.with_columns(renumber(log.rows["user"], users["before"], users["user"]))
    rows = rows.drop_nulls("user")
    # Who is left can change the order: with the only id that is no number gone, it is by value.
    if not rows["user"].is_sorted():
        rows = rows.sort("user", maintain_order=True)
    sizes = np.bincount(rows["user"].to_numpy())
    first = np.repeat((np.cumsum(sizes) - sizes).astype(np.int32), sizes)
    position = np.arange(rows.height, dtype=np.int32) - first
    return rows.with_columns(position=position)


def _add_profiles(users: pl.DataFrame, table: RawTable | None, dropped: Counts) -> pl.DataFrame:
    if table is None:
        return users.with_columns(profile=pl.lit(""))
    known = table.frame.with_columns(parse_ids(table, "user_id"))
    _refuse_duplicates(table, known["user_id"], "user_id")
    known = drop(known, pl.col("user_id").is_null(), "user row without a user id", dropped)
    strangers = int((~users["user_id"].is_in(known["user_id"].implode())).sum())
    if strangers == users.height:
        ours, theirs = (ids.head(1).to_list() for ids in (users["user_id"], known["user_id"]))
        raise DataError(
            f"users of the log in {table.path}",
            found=f"none of them; user ids look like {ours} in the log and {theirs} there",
            remedy="Write the ids alike in both files, or name another column under data.columns.",
        )
    count(strangers, "user not in the users file (kept)", dropped)
    return users.join(
        known.select("user_id", "profile"), on="user_id", how="left", maintain_order="left"
    ).with_columns(pl.col("profile").fill_null(""))


def _refuse_duplicates(table: RawTable, ids: pl.Series, column: str) -> None:
    repeated = (ids.is_not_null() & ~ids.is_first_distinct()).arg_true()
    if len(repeated):
        index = int(repeated[0])
        first = int((ids == ids[index]).arg_true()[0])
        raise DataError(
            "every id once",
            found=f"{table.place(index, column)}, already in row {table.first_row + first} "
            f"({len(repeated)} such rows)",
            remedy="Keep one row for each id.",
        )


def _nothing_left(
    raw: RawLog, items: pl.DataFrame, log: Log, lists: ListsConfig, dropped: Counts
) -> DataError:
    counts = ", ".join(f"{reason}: {number}" for reason, number in dropped.items())
    examples = "" if log.rows.height else _unlike_ids(raw, items, dropped)
    return DataError(
        f"at least one user with {needed_interactions(lists)} usable interactions "
        f"(lists.min_history {lists.min_history}, lists.max_reading {lists.max_reading}, "
        f"lists.chunk_size {lists.chunk_size})",
        found=f"none among {raw.interactions.height} rows of {raw.interactions.path} "
        f"(dropped: {counts}){examples}",
        remedy="Check the columns under data.columns, or lower lists.min_history, lists.chunk_size "
        "or data.min_user_interactions.",
    )
