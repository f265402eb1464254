"""What a long stage leaves while it works: shards of users, one Parquet file each.

A killed attempt loses the shard it was at. The finished stage holds one table and no shards.
"""

from __future__ import annotations

import polars as pl

from rlrf4rec.workspace import StageWriter


def write_shard(writer: StageWriter, users: list[int], frame: pl.DataFrame) -> None:
    """Keep the rows of ``users`` (ascending); ``frame`` has a column ``user``."""
    writer.write_frame(f"shard-{users[0]:07d}.parquet", frame)


def finished_users(writer: StageWriter) -> set[int]:
    """Users whose rows an earlier attempt wrote; a shard that cannot be read is dropped."""
    users: set[int] = set()
    for path in writer.folder.glob("shard-*.parquet"):
        try:
            users.update(pl.read_parquet(path)["user"].to_list())
        except (pl.exceptions.PolarsError, OSError):
            path.unlink()
    return users


def read_shards(writer: StageWriter) -> pl.DataFrame:
    """All shards' rows."""
    return pl.concat(
        [pl.read_parquet(path) for path in sorted(writer.folder.glob("shard-*.parquet"))]
    )


def clear_shards(writer: StageWriter) -> None:
    """Delete the shards, once the stage's table is in its place."""
    for path in writer.folder.glob("shard-*.parquet"):
        path.unlink()
