"""Cleaning on random logs against the same rules row by row in plain Python."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from rlrf4rec.config import Config
from rlrf4rec.data import load_dataset, reading_histories
from rlrf4rec.data.cleaning import needed_interactions
from rlrf4rec.data.ordering import sort_within
from rlrf4rec.data.parsing import parse_times
from rlrf4rec.data.raw import RawTable, open_table, read_table
from rlrf4rec.data.seeds import stable_hash
from rlrf4rec.errors import DataError
from rlrf4rec.records import PADDING

Row = dict[str, Any]

# Kinds of ids: what a file holds; None and blanks are missing.
IDS: dict[str, list[Any]] = {
    "text": ["a", "b", "é", "Z", " x ", "10", "9", "a,b", "", " ", None],
    # Numbers alone once the rare "n/a" is gone: then they are in another order.
    "decimal text": ["7", "007", "10", "9", "123456789012345678901", "n/a", "\t", None],
    "whole": [7, 10, 9, 100, -3, None],
    "floats": [7.0, 10.0, 9.0, math.nan, None],
}
TIMES: dict[str, list[Any]] = {
    "seconds": [1, 2, 3, None],
    "before 1970": [-5, -4, 0, 2**31],
    "far apart": [-(2**62), 2**62, 0],
    "fractions": [0.5, 0.25, -0.0, 0.0, math.nan],
}


def random_log(rng: random.Random, users: str, items: str, times: str | None, n: int) -> list[Row]:
    rows = []
    for _ in range(n):
        # The last few ids are rare.
        row = {"user_id": rng.choice(IDS[users][:4] * 6 + IDS[users])}
        row["item_id"] = rng.choice(IDS[items])
        row["rating"] = rng.choice([1.0, 2.5, 4.1, 0.0, -0.0, 1e300, math.inf, None] * 2 + [3.0])
        if times is not None:
            row["timestamp"] = rng.choice(TIMES[times])
        row["place"] = rng.choice([3, 2, 2, 1, None])
        rows.append(row)
    return rows + rng.sample(rows, n // 10)


@pytest.mark.parametrize("form", ["csv", "parquet", "categorical"])
@pytest.mark.parametrize("users", IDS)
def test_as_in_plain_python(table_config, form: str, users: str) -> None:
    rng = random.Random(f"{form} {users}")
    for _ in range(12):
        items, times = rng.choice(list(IDS)), rng.choice([None, *TIMES])
        if form == "csv" and "floats" in (users, items):
            continue  # 7.0 in a text file is an id that ends in .0
        rows = random_log(rng, users, items, times, rng.choice([20, 60, 200]))
        catalogue = [name for name in map(as_text, IDS[items]) if name is not None]
        catalogue = [*dict.fromkeys(catalogue), "never seen"]
        catalogue.remove(rng.choice(catalogue))
        columns = {name: name for name in ("rating", "timestamp") if rng.random() < 0.7}
        if times is None:
            columns.pop("timestamp", None)
        if rng.random() < 0.4:
            columns["position"] = "place"
        data = {
            "repeats": rng.choice(["keep", "first"]),
            "min_user_interactions": rng.choice([1, 1, 4]),
            "min_item_interactions": rng.choice([1, 1, 4]),
            "max_users": rng.choice([None, None, 2]),
        }
        log = pl.DataFrame(rows, infer_schema_length=None, strict=False)
        if form == "categorical":
            text = pl.col(pl.String)
            log = log.with_columns(text.cast(pl.Categorical))
        shown = pl.DataFrame({"item_id": catalogue, "title": catalogue})
        config = table_config(log.write_csv() if form == "csv" else log, shown, columns, **data)
        compare(config, rows, catalogue)


def compare(config: Config, rows: list[Row], catalogue: list[str]) -> None:
    users, items, log, dropped = in_plain_python(config, rows, catalogue)
    if not users:
        with pytest.raises(DataError, match="at least one user"):
            load_dataset(config)
        return
    found = load_dataset(config)
    assert found.users["user_id"].to_list() == users
    assert found.items["item_id"].to_list() == items
    assert found.interactions.rows() == log
    assert list(found.dropped.items()) == list(dropped.items())
    histories = reading_histories(found, config.lists)
    for user in range(len(users)):
        own = [row for row in log if row[0] == user]
        read = own[: min((len(own) + 1) // 2, config.lists.max_reading)]
        assert histories.lengths[user] == len(read)
        padding = histories.items.shape[1] - len(read)
        assert histories.items[user].tolist() == [row[1] for row in read] + [PADDING] * padding
        ratings = [math.nan if row[2] is None else row[2] for row in read] + [math.nan] * padding
        np.testing.assert_array_equal(histories.ratings[user], np.array(ratings, np.float32))


def in_plain_python(
    config: Config, rows: list[Row], catalogue: list[str]
) -> tuple[list[str], list[str], list[tuple[int, int, float | None, int]], dict[str, int]]:
    """User ids, item ids, interactions as `Dataset` has them, and what was dropped."""
    dropped: Counter[str] = Counter()
    columns, data = config.data.columns, config.data

    def keep(rows: list[Row], good: list[bool], reason: str) -> list[Row]:
        if not all(good):
            dropped[reason] += good.count(False)
        return [row for row, stays in zip(rows, good, strict=True) if stays]

    wanted = {"user id": "user_id", "item id": "item_id"}
    parts = ("rating", "timestamp", "position")
    wanted |= {part: part for part in parts if getattr(columns, part) is not None}
    log = [
        {
            "user id": as_text(row["user_id"]),
            "item id": as_text(row["item_id"]),
            "rating": row["rating"],
            "timestamp": None if is_nan(row.get("timestamp")) else row.get("timestamp"),
            "position": row["place"],
        }
        for row in rows
    ]
    log = [{part: row[part] for part in wanted} for row in log]
    for part in wanted:
        log = keep(log, [row[part] is not None for row in log], f"missing {part}")
    if columns.rating is not None:
        with np.errstate(over="ignore"):
            log = [{**row, "rating": float(np.float32(row["rating"]))} for row in log]
        log = keep(log, [math.isfinite(row["rating"]) for row in log], "non-finite rating")
    log = keep(log, [row["item id"] in catalogue for row in log], "item not in catalogue")
    timed = columns.timestamp is not None or columns.position is not None
    again = "duplicate row" if timed else "duplicate row (no time or position tells it apart)"
    log = keep(log, first_ones([tuple(row.values()) for row in log]), again)
    log.sort(key=lambda row: [row[part] for part in ("timestamp", "position") if part in row])
    if data.repeats == "first":
        reason = "later interaction with the same item (data.repeats)"
        log = keep(log, first_ones([(row["user id"], row["item id"]) for row in log]), reason)
    least = {"item id": data.min_item_interactions, "user id": data.min_user_interactions}
    if max(least.values()) > 1:
        core, before = log, -1
        while len(core) != before:
            before = len(core)
            for part, fewest in least.items():
                sizes = Counter(row[part] for row in core)
                core = [row for row in core if sizes[row[part]] >= fewest]
        reason = "interaction outside the core (data.min_user_interactions, min_item_interactions)"
        dropped[reason] += len(log) - len(core)
        log, before = core, len(catalogue)
        catalogue = [name for name in catalogue if any(row["item id"] == name for row in log)]
        dropped["item outside the core"] += before - len(catalogue)
    sizes = Counter(row["user id"] for row in log)
    enough = [user for user in sizes if sizes[user] >= needed_interactions(config.lists)]
    dropped["user with too little history"] += len(sizes) - len(enough)
    if data.max_users is not None and len(enough) > data.max_users:
        dropped["user not in the sample (data.max_users)"] = len(enough) - data.max_users
        enough.sort(key=lambda name: (stable_hash(config.seed, name), name))
        enough = enough[: data.max_users]
    users, items = in_order(enough), in_order(catalogue)
    interactions = [
        (number, items.index(row["item id"]), row.get("rating"), position)
        for number, user in enumerate(users)
        for position, row in enumerate(row for row in log if row["user id"] == user)
    ]
    return users, items, interactions, {why: number for why, number in dropped.items() if number}


def as_text(value: Any) -> str | None:
    if value is None or is_nan(value) or not str(value).strip():
        return None
    return str(int(value)) if isinstance(value, float) else str(value)


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def first_ones(values: list[Any]) -> list[bool]:
    return [value not in values[:place] for place, value in enumerate(values)]


def in_order(ids: list[str]) -> list[str]:
    if all(name.isascii() and name.isdigit() for name in ids):
        return sorted(ids, key=lambda name: (int(name), name))
    return sorted(ids)


@pytest.mark.parametrize("n", [0, 1, 500])
def test_sort_within_many_ties(n: int) -> None:
    rng = np.random.default_rng(n)
    group = np.sort(rng.integers(0, 9, n)).astype(np.int32)
    first, second = rng.integers(0, 6, (2, n))
    payload, tied, run = sort_within(group, np.arange(n), [first, second])
    assert payload.tolist() == np.lexsort((second, first, group)).tolist()
    keys = list(zip(group[payload].tolist(), first[payload].tolist(), strict=True))
    assert tied.tolist() == [place for place in range(n) if keys.count(keys[place]) > 1]
    runs = list(zip(run.tolist(), (keys[place] for place in tied), strict=True))
    assert len(set(runs)) == len(set(run.tolist())) == len({key for _, key in runs})


def test_a_broken_column_is_an_error(tmp_path: Path) -> None:
    """The footer can be read, the values cannot."""
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": ["a", "b"]}).write_parquet(path, compression="zstd")
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(20) + content[24:])
    table = open_table(path)
    with pytest.raises(DataError, match=r"a readable Parquet file.*log\.parquet"):
        table.column("user_id")


@pytest.mark.parametrize("name", ["log.csv", "log.tsv"])
def test_a_text_file_is_read_column_by_column(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    fields = [["user_id", "rows", "len"], ["007", "x y", "1"], ["8", '"a\nb"', ""]]
    separator = "\t" if name.endswith("tsv") else ","
    path.write_text("".join(separator.join(row) + "\n" for row in fields))
    opened, read = open_table(path), read_table(path)
    assert opened.height == read.height == 2
    assert opened.frame.schema == read.frame.schema
    assert not opened.frame.height
    for column in fields[0]:
        assert opened.column(column).to_list() == read.column(column).to_list()
    assert opened.column("user_id").to_list() == ["007", "8"]
    assert f"{name}, row 3, column 'rows'" in opened.place(1, "rows")


@pytest.mark.parametrize("name", ["log [1].csv", "log [1].parquet"])
def test_a_path_is_no_pattern(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame({"user_id": ["a", "b"]})
    path = tmp_path / name
    (frame.write_csv if name.endswith("csv") else frame.write_parquet)(path)
    for opens in (open_table, read_table):
        assert opens(path).column("user_id").to_list() == ["a", "b"]


def test_a_folder_of_parquet_files_is_one_table(tmp_path: Path) -> None:
    """As Spark writes it: parts in the order of their names, and files beside them."""
    folder = tmp_path / "log.parquet"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for number, users in ((1, ["c"]), (0, ["a", "b"])):
        part = folder / f"part-{number:05d}-7f.snappy.parquet"
        pl.DataFrame({"user_id": users}).write_parquet(part)
    for opens in (open_table, read_table):
        table = opens(folder)
        assert table.height == 3
        assert table.column("user_id").to_list() == ["a", "b", "c"]
    with pytest.raises(DataError, match="a folder without Parquet files"):
        open_table(tmp_path)


def test_partitions_of_a_folder_are_read_too(tmp_path: Path) -> None:
    """By the order of their names; what Spark keeps for itself is not."""
    for folder, user in (("month=2/day=1", "b"), ("month=1/day=9", "a"), ("_temporary/0", "x")):
        (tmp_path / folder).mkdir(parents=True)
        pl.DataFrame({"user_id": [user]}).write_parquet(tmp_path / folder / "part-0.parquet")
    for opens in (open_table, read_table):
        assert opens(tmp_path).column("user_id").to_list() == ["a", "b"]


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"user_id": [1]}, "column 'user_id': String in part-0.parquet, Int64 in part-1.parquet"),
        ({"user": ["b"]}, "column 'user_id': String in part-0.parquet, missing in part-1.parquet"),
        (None, "part-1.parquet is no Parquet file"),
    ],
)
def test_a_part_unlike_the_first_is_named(
    tmp_path: Path, part: dict[str, list[object]] | None, found: str
) -> None:
    pl.DataFrame({"user_id": ["a"]}).write_parquet(tmp_path / "part-0.parquet")
    other = tmp_path / "part-1.parquet"
    if part is None:
        other.write_text("PAR1")
    else:
        pl.DataFrame(part).write_parquet(other)
    with pytest.raises(DataError, match=re.escape(found)) as caught:
        read_table(tmp_path)
    assert "with one schema" in caught.value.remedy


def test_true_and_false_are_no_times(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"timestamp": [True, False]}).write_parquet(path)
    with pytest.raises(DataError, match="type Boolean"):
        parse_times(open_table(path), "timestamp")


@pytest.mark.parametrize("opens", [open_table, read_table])
def test_a_row_with_too_many_fields_is_refused(
    tmp_path: Path, opens: Callable[[Path], RawTable]
) -> None:
    """Also where it is the last of many, and in no column that would be read."""
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n" + 9_999 * "1,2\n" + "1,2,3\n")
    with pytest.raises(DataError, match=r"log\.csv: row 10001: 3 fields, the header has 2"):
        opens(path)
