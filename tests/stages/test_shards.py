"""Shards of a stage at work: one that cannot be read is written again."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rlrf4rec.stages.shards import clear_shards, finished_users, read_shards, write_shard
from rlrf4rec.workspace import StageWriter


@pytest.fixture
def writer(tmp_path: Path) -> StageWriter:
    writer = StageWriter(tmp_path)
    for users in ([0, 1], [2, 5]):
        texts = [f"text of {user}, " * 50 for user in users]
        write_shard(writer, users, pl.DataFrame({"user": users, "text": texts}))
    return writer


def test_shards_are_read_in_the_order_of_their_users(writer: StageWriter) -> None:
    assert finished_users(writer) == {0, 1, 2, 5}
    assert read_shards(writer)["user"].to_list() == [0, 1, 2, 5]
    clear_shards(writer)
    assert finished_users(writer) == set()


def test_a_shard_whose_texts_cannot_be_read_is_dropped(writer: StageWriter, tmp_path: Path) -> None:
    """Damaged where no user's number stands."""
    shard = sorted(tmp_path.glob("shard-*"))[1]
    content = bytearray(shard.read_bytes())
    place = content.index(b"text of 2")
    content[place - 12 : place] = b"\xff" * 12
    shard.write_bytes(content)
    assert pl.read_parquet(shard, columns=["user"])["user"].to_list() == [2, 5]
    assert finished_users(writer) == {0, 1}
    assert read_shards(writer)["user"].to_list() == [0, 1]
