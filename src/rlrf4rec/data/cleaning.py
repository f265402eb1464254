"""One path from any source's raw tables to a `Dataset`: check, drop and count, number.

What makes the log ambiguous (a rating that is no number, two catalogue rows with one id) is an
error. What is merely missing is dropped and counted in `Dataset.dropped`.
"""

from __future__ import annotations

import polars as pl

from rlrf4rec.config import Config, DataConfig, ListsConfig
from rlrf4rec.data.amazon import load_amazon
from rlrf4rec.data.movielens import load_movielens
from rlrf4rec.data.parsing import parse_ids, parse_integers, parse_numbers, parse_times
from rlrf4rec.data.raw import RawLog, RawTable
from rlrf4rec.data.seeds import stable_hash
from rlrf4rec.data.table import load_table
from rlrf4rec.errors import DataError
from rlrf4rec.records import Dataset

Counts = dict[str, int]


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
    log = _clean_interactions(raw.interactions, items, dropped)
    if config.data.repeats == "first":
        log = _first_of_repeats(log, dropped)
    log, items = _keep_core(log, items, config.data, dropped)
    users = _choose_users(log, config, dropped)
    if not users.height:
        raise _nothing_left(raw, log, config.lists, dropped)
    return Dataset(
        name=config.data.name or raw.name,
        interactions=_number_interactions(log, users, items),
        items=items,
        users=_add_profiles(users, raw.users, dropped),
        dropped=dropped,
    )


def _clean_catalogue(table: RawTable, dropped: Counts) -> pl.DataFrame:
    """``item``, ``item_id``, ``title``, ``details``."""
    frame = table.frame.with_columns(parse_ids(table, "item_id"))
    _refuse_duplicates(table, frame["item_id"], "item_id")
    frame = _drop(frame, pl.col("item_id").is_null(), "catalogue row without an item id", dropped)
    untitled = pl.col("title").fill_null("").str.strip_chars() == ""
    _count(frame.filter(untitled).height, "item without a title (kept)", dropped)
    frame = frame.with_columns(
        title=pl.when(untitled).then(pl.lit("item ") + pl.col("item_id")).otherwise("title"),
        details=pl.col("details").fill_null(""),
    )
    return _number(frame.select("item_id", "title", "details"), "item")


def _clean_interactions(table: RawTable, items: pl.DataFrame, dropped: Counts) -> pl.DataFrame:
    """``user_id``, ``item_id``, ``rating`` f32, and the columns of the order; in file order."""
    columns = [parse_ids(table, "user_id"), parse_ids(table, "item_id")]
    rated = "rating" in table.frame.columns
    if rated:
        # To f32 before the check: 1e300 is finite as f64 only.
        columns.append(parse_numbers(table, "rating").cast(pl.Float32))
    if "timestamp" in table.frame.columns:
        columns.append(parse_times(table, "timestamp"))
    if "position" in table.frame.columns:
        columns.append(parse_integers(table, "position"))
    log = pl.DataFrame(columns)

    missing = {"user_id": "user id", "item_id": "item id"}
    for column in log.columns:
        reason = f"missing {missing.get(column, column)}"
        log = _drop(log, pl.col(column).is_null(), reason, dropped)
    if rated:
        log = _drop(log, ~pl.col("rating").is_finite(), "non-finite rating", dropped)
    unknown = ~pl.col("item_id").is_in(items["item_id"].implode())
    log = _drop(log, unknown, "item not in catalogue", dropped)
    distinct = log.unique(keep="first", maintain_order=True)
    _count(log.height - distinct.height, "duplicate row", dropped)
    if not rated:
        distinct = distinct.with_columns(rating=pl.lit(None, dtype=pl.Float32))
    return distinct


def _first_of_repeats(log: pl.DataFrame, dropped: Counts) -> pl.DataFrame:
    """The earliest interaction of each user and item."""
    ordered = log.sort(_order(log), maintain_order=True) if _order(log) else log
    distinct = ordered.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    reason = "later interaction with the same item (data.repeats)"
    _count(log.height - distinct.height, reason, dropped)
    return distinct


def _keep_core(
    log: pl.DataFrame, items: pl.DataFrame, data: DataConfig, dropped: Counts
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The largest part of the log in which every user and every item has the fewest asked for.

    Leaving out a user can bring an item below its minimum, and the other way round: so again until
    nothing changes. Items left without interactions leave the catalogue, unless the filter is off.
    """
    least = {"item_id": data.min_item_interactions, "user_id": data.min_user_interactions}
    if max(least.values()) == 1:
        return log, items
    height, before = log.height, -1
    while log.height != before:
        before = log.height
        for column, fewest in least.items():
            log = log.filter(pl.len().over(column) >= fewest)
    reason = "interaction outside the core (data.min_user_interactions, min_item_interactions)"
    _count(height - log.height, reason, dropped)
    inside = pl.col("item_id").is_in(log["item_id"].unique().implode())
    items = _drop(items, ~inside, "item outside the core", dropped)
    return log, _number(items.drop("item"), "item")


def _order(log: pl.DataFrame) -> list[str]:
    """The columns by which a user's interactions are ordered; none: the file's order."""
    return [column for column in ("timestamp", "position") if column in log.columns]


def _choose_users(log: pl.DataFrame, config: Config, dropped: Counts) -> pl.DataFrame:
    """``user``, ``user_id`` of the users that have both something to read and a list to rank."""
    users = log.group_by("user_id").agg(n=pl.len().cast(pl.Int64))
    enough = pl.col("n") >= needed_interactions(config.lists)
    users = _drop(users, ~enough, "user with too little history", dropped)
    limit = config.data.max_users
    if limit is not None and users.height > limit:
        _count(users.height - limit, "user not in the sample (data.max_users)", dropped)
        # Chosen by the user's own hash: the file's order and the other users do not matter.
        ranked = sorted(users["user_id"], key=lambda name: (stable_hash(config.seed, name), name))
        users = pl.DataFrame({"user_id": ranked[:limit]})
    return _number(users.select("user_id"), "user")


def needed_interactions(lists: ListsConfig) -> int:
    """The fewest interactions of a user with a reading history and one feedback chunk.

    Of n interactions, min(ceil(n / 2), max_reading) are read and the rest is feedback. If the
    setting ``min_history`` exceeds ``max_reading``, no number suffices: a huge one is returned.
    """
    feedback = 1 if lists.partial_chunk else lists.chunk_size
    if lists.min_history > lists.max_reading:
        return 2**62
    # ceil(n / 2) >= min_history; and floor(n / 2) >= feedback, or n - max_reading >= feedback.
    return max(2 * lists.min_history - 1, min(2 * feedback, lists.max_reading + feedback))


def _number_interactions(
    log: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame
) -> pl.DataFrame:
    return (
        log.join(users, on="user_id", how="inner", maintain_order="left")
        .join(items.select("item", "item_id"), on="item_id", how="inner", maintain_order="left")
        .sort(["user", *_order(log)], maintain_order=True)  # stable: ties keep the log's order
        .select(
            "user",
            "item",
            "rating",
            position=pl.int_range(pl.len(), dtype=pl.Int32).over("user"),
        )
    )


def _add_profiles(users: pl.DataFrame, table: RawTable | None, dropped: Counts) -> pl.DataFrame:
    if table is None:
        return users.with_columns(profile=pl.lit(""))
    known = table.frame.with_columns(parse_ids(table, "user_id"))
    _refuse_duplicates(table, known["user_id"], "user_id")
    known = _drop(known, pl.col("user_id").is_null(), "user row without a user id", dropped)
    return users.join(
        known.select("user_id", "profile"), on="user_id", how="left", maintain_order="left"
    ).with_columns(pl.col("profile").fill_null(""))


def _number(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Sort by the id column and add the row number as column ``name``, first."""
    key = pl.col(f"{name}_id")
    if frame.select(key.str.contains(r"^[0-9]+$").all()).item():
        # By value, without a limit on the digits: first by length, then as text.
        digits = key.str.strip_chars_start("0")
        frame = frame.sort(digits.str.len_bytes(), digits, key)
    else:
        frame = frame.sort(key)
    return frame.select(pl.int_range(pl.len(), dtype=pl.Int32).alias(name), pl.all())


def _drop(frame: pl.DataFrame, bad: pl.Expr, reason: str, dropped: Counts) -> pl.DataFrame:
    kept = frame.filter(~bad)
    _count(frame.height - kept.height, reason, dropped)
    return kept


def _count(number: int, reason: str, dropped: Counts) -> None:
    if number:
        dropped[reason] = dropped.get(reason, 0) + number


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


def _nothing_left(raw: RawLog, log: pl.DataFrame, lists: ListsConfig, dropped: Counts) -> DataError:
    counts = ", ".join(f"{reason}: {number}" for reason, number in dropped.items())
    examples = ""
    if not log.height and "item not in catalogue" in dropped:
        ours, theirs = raw.interactions.frame["item_id"][0], raw.items.frame["item_id"][0]
        examples = f"; item ids look like {ours!r} in the log and {theirs!r} in the catalogue"
    return DataError(
        f"at least one user with {needed_interactions(lists)} usable interactions "
        f"(lists.min_history {lists.min_history}, lists.max_reading {lists.max_reading}, "
        f"lists.chunk_size {lists.chunk_size})",
        found=f"none among {raw.interactions.frame.height} rows of {raw.interactions.path} "
        f"(dropped: {counts}){examples}",
        remedy="Check the columns under data.columns, or lower lists.min_history, lists.chunk_size "
        "or data.min_user_interactions.",
    )
