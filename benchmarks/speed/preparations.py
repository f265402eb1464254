"""Three ways to prepare a log: ours, and two to write the same in pandas.

Each is a function that imports what it needs and returns the work, so that imports are not timed.
The pandas ways leave out what a generated log has not: ids that are blank or numbers, ratings that
are not finite, times as text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speed.generated import COLUMNS, ITEMS, LOG

# A user reads half of its rows, at most 30: three must be read, and four left as feedback.
MIN_HISTORY, CHUNK, MAX_READING = 3, 4, 30
FEWEST = 8

LITTLE = "user with too little history"
UNKNOWN = "item not in catalogue"
AGAIN = "duplicate row"
MISSING = {name: f"missing {name.replace('_', ' ')}" for name in COLUMNS}

Frame = Any  # a pandas frame: pandas has no types


@dataclass(frozen=True)
class Prepared:
    """What all ways arrive at.

    Attributes:
        log: user, item, rating and position of every interaction, ``[k]`` each.
        histories: items and ratings, ``[u, h]`` each, padded with -1 and NaN.
        user_ids: ``[u]``.
        dropped: how many rows or users were left out, by reason.
    """

    log: list[npt.NDArray[Any]]
    histories: list[npt.NDArray[Any]]
    user_ids: list[str]
    dropped: dict[str, int]

    def checksum(self) -> str:
        """The same for the same content."""
        digest = hashlib.blake2b(digest_size=8)
        types = ("i4", "i4", "f4", "i4", "i4", "f4")
        for array, dtype in zip([*self.log, *self.histories], types, strict=True):
            digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
        digest.update(json.dumps([self.user_ids, sorted(self.dropped.items())]).encode())
        return digest.hexdigest()


Prepare = Callable[[Path], Prepared]


def ours() -> Prepare:
    """`load_dataset` and `reading_histories`."""
    from rlrf4rec.config import parse_config
    from rlrf4rec.data import load_dataset, reading_histories

    def prepare(folder: Path) -> Prepared:
        data = {
            "source": "table",
            "interactions": str(folder / LOG),
            "items": str(folder / ITEMS),
            "columns": {"rating": "rating", "timestamp": "timestamp"},
        }
        lists = {"min_history": MIN_HISTORY, "chunk_size": CHUNK, "max_reading": MAX_READING}
        config = parse_config({"data": data, "lists": lists})
        dataset = load_dataset(config)
        read = reading_histories(dataset, config.lists)
        return Prepared(
            [column.to_numpy() for column in dataset.interactions],
            [read.items, read.ratings],
            dataset.users["user_id"].to_list(),
            dataset.dropped,
        )

    return prepare


def step_by_step() -> Prepare:
    """Pandas, the steps in the order in which one would tell them: drop, then number, then sort."""
    import pandas as pd

    def prepare(folder: Path) -> Prepared:
        log, items = _read(folder)
        dropped: dict[str, int] = {}
        for column in COLUMNS:
            log = _keep(log, log[column].notna(), MISSING[column], dropped)
        log = _keep(log, log["item_id"].isin(items["item_id"]), UNKNOWN, dropped)
        log = _keep(log, ~log.duplicated(), AGAIN, dropped)
        sizes = log["user_id"].value_counts()
        dropped[LITTLE] = int((sizes < FEWEST).sum())
        log = log[log["user_id"].isin(sizes.index[sizes >= FEWEST])]
        user, ids = pd.factorize(log["user_id"], sort=True)
        item = log[["item_id"]].merge(items, on="item_id", how="left")["item"]
        log = pd.DataFrame(
            {
                "user": user.astype("int32"),
                "item": item.to_numpy(),
                "rating": log["rating"].to_numpy(),
                "timestamp": log["timestamp"].to_numpy(),
            }
        )
        return _ordered(log, list(ids), dropped)

    return prepare


def codes_first() -> Prepare:
    """Pandas written for speed: every later step is on numbers, and rows are filtered once."""
    import pandas as pd

    def prepare(folder: Path) -> Prepared:
        log, items = _read(folder)
        user, ids = pd.factorize(log.pop("user_id"), sort=True)
        stored, item_ids = pd.factorize(log.pop("item_id"))
        # One more for the code -1, which is what a missing id gets.
        item = np.append(pd.Index(items["item_id"]).get_indexer(item_ids), -1)[stored]
        log.insert(0, "user", user.astype("int32"))
        log.insert(1, "item", item.astype("int32"))
        bad = {
            MISSING["user_id"]: user < 0,
            MISSING["item_id"]: stored < 0,
            MISSING["rating"]: log["rating"].isna().to_numpy(),
            MISSING["timestamp"]: log["timestamp"].isna().to_numpy(),
            UNKNOWN: item < 0,
        }
        kept, dropped = np.ones(len(log), dtype=bool), dict[str, int]()
        for reason, rows in bad.items():
            if number := int((kept & rows).sum()):
                dropped[reason] = number
            kept &= ~rows
        log = log[kept]
        log = _keep(log, ~log.duplicated(), AGAIN, dropped)
        sizes = np.bincount(log["user"], minlength=len(ids))
        stays = sizes >= FEWEST
        dropped[LITTLE] = int((sizes > 0).sum() - stays.sum())
        log = log[stays[log["user"]]]
        log["user"] = (np.cumsum(stays) - 1).astype("int32")[log["user"]]
        return _ordered(log, list(ids[stays]), dropped)

    return prepare


def _read(folder: Path) -> tuple[Frame, Frame]:
    """The log, and the catalogue numbered in the order of its ids."""
    import pandas as pd

    log = pd.read_parquet(folder / LOG, columns=COLUMNS)
    items = pd.read_parquet(folder / ITEMS).sort_values("item_id", ignore_index=True)
    return log, items[["item_id"]].assign(item=np.arange(len(items), dtype="int32"))


def _keep(log: Frame, good: Frame, reason: str, dropped: dict[str, int]) -> Frame:
    kept = log[good]
    if len(kept) < len(log):
        dropped[reason] = len(log) - len(kept)
    return kept


def _ordered(log: Frame, user_ids: list[str], dropped: dict[str, int]) -> Prepared:
    """Sort by user and time, number the positions, cut out what is read."""
    log = log.sort_values(["user", "timestamp"], kind="stable", ignore_index=True)
    by_user = log.groupby("user")
    log["position"] = by_user.cumcount().astype("int32")
    length = np.minimum((by_user.size().to_numpy() + 1) // 2, MAX_READING)
    read = log[log["position"] < length[log["user"]]]
    items = np.full((len(length), length.max()), -1)
    ratings = np.full(items.shape, np.nan, dtype="float32")
    items[read["user"], read["position"]] = read["item"]
    ratings[read["user"], read["position"]] = read["rating"]
    columns = [log[name].to_numpy() for name in ("user", "item", "rating", "position")]
    return Prepared(columns, [items, ratings], user_ids, dropped)


# The name of each way to what makes it.
WAYS: dict[str, Callable[[], Prepare]] = {
    "ours": ours,
    "step_by_step": step_by_step,
    "codes_first": codes_first,
}
