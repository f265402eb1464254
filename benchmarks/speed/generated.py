"""A generated log as a shop has it: few heavy items, many light users, some useless rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

Codes = npt.NDArray[np.int32]

LOG, ITEMS = "log.parquet", "items.parquet"
COLUMNS = ["user_id", "item_id", "rating", "timestamp"]
N_ITEMS = 100_000
ROWS_PER_USER = 40
# Shares of the rows.
AGAIN, UNKNOWN, MISSING = 0.005, 0.005, 0.001
TEN_YEARS = 10 * 365 * 24 * 3600


def write_log(folder: Path, n: int, seed: int = 0) -> None:
    """Write ``n`` interactions in no order, and their catalogue, as Parquet.

    A user's activity is geometric; an item's popularity falls with the 0.8th power of its rank.
    Ids are as long as Amazon's: 14 letters for a user, 10 for an item.
    """
    rng = np.random.default_rng(seed)
    user, item = _who_and_what(rng, n - int(n * AGAIN))
    row = np.concatenate([np.arange(len(user)), rng.integers(0, len(user), n - len(user))])
    row = rng.permutation(row.astype(np.uint32))
    rating = rng.integers(1, 6, len(user)).astype(np.float32)
    time = 1_300_000_000 + rng.integers(0, TEN_YEARS, len(user))
    users = _ids("A", int(user.max()) + 1, digits=13)
    items, unknown = _ids("B", N_ITEMS, digits=9), _ids("X", N_ITEMS, digits=9)
    log = pl.DataFrame(
        {
            "user_id": _with_gaps(rng, users.gather(user[row])),
            "item_id": _with_gaps(rng, pl.concat([items, unknown]).gather(item[row])),
            "rating": _with_gaps(rng, pl.Series(rating[row])),
            "timestamp": time[row],
        }
    )
    log.write_parquet(folder / LOG)
    pl.DataFrame({"item_id": items, "title": "Title of " + items}).write_parquet(folder / ITEMS)


def _who_and_what(rng: np.random.Generator, n: int) -> tuple[Codes, Codes]:
    """User and item of ``n`` rows; items from `N_ITEMS` on are not in the catalogue."""
    # Twice as many users as are needed on average, so that the rows are enough.
    activity = rng.geometric(1 / ROWS_PER_USER, size=2 * n // ROWS_PER_USER + 10)
    user = np.repeat(np.arange(len(activity), dtype=np.int32), activity)[:n]
    chances = np.cumsum(np.arange(1, N_ITEMS + 1) ** -0.8)
    rank = np.searchsorted(chances, rng.random(len(user)) * chances[-1])
    item = rng.permutation(N_ITEMS).astype(np.int32)[rank]
    item[rng.random(len(user)) < UNKNOWN] += N_ITEMS
    return user, item


def _ids(letter: str, n: int, digits: int) -> pl.Series:
    """Distinct ids in no order."""
    # Odd, so that no two products are the same modulo a power of 16.
    numbers = np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) % np.uint64(16**digits)
    return pl.Series([f"{letter}{number:0{digits}X}" for number in numbers.tolist()])


def _with_gaps(rng: np.random.Generator, values: pl.Series) -> pl.Series:
    return values.set(pl.Series(rng.random(len(values)) < MISSING), None)
