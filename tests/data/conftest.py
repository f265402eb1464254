"""Small logs written to disk in the formats that users have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from rlrf4rec.config import Config, parse_config
from rlrf4rec.records import Dataset

MakeConfig = Callable[..., Config]
MakeDataset = Callable[..., Dataset]


@pytest.fixture
def table_config(tmp_path: Path) -> MakeConfig:
    """A config for the files ``log.csv`` and ``items.csv`` in ``tmp_path``; short lists."""

    def make(
        log: str | pl.DataFrame,
        items: str | pl.DataFrame | None = None,
        columns: dict[str, object] | None = None,
        lists: dict[str, object] | None = None,
        **data: object,
    ) -> Config:
        if items is None:
            items = "item_id,title\n" + "".join(f"i{n},Title {n}\n" for n in range(20))
        paths = {}
        for name, content in (("log", log), ("items", items)):
            if isinstance(content, str):
                paths[name] = tmp_path / f"{name}.csv"
                paths[name].write_text(content, encoding="utf-8")
            else:
                paths[name] = tmp_path / f"{name}.parquet"
                content.write_parquet(paths[name])
        return parse_config(
            {
                "data": {
                    "source": "table",
                    "interactions": str(paths["log"]),
                    "items": str(paths["items"]),
                    "columns": columns or {},
                    **data,
                },
                "lists": {"list_size": 4, "chunk_size": 1, "min_history": 1, **(lists or {})},
            }
        )

    return make


@pytest.fixture
def make_dataset() -> MakeDataset:
    """A `Dataset` from ``{user_id: [(item, rating), …]}``."""

    def make(logs: dict[str, list[tuple[int, float | None]]], n_items: int) -> Dataset:
        rows = [
            (user, item, rating, position)
            for user, log in enumerate(logs.values())
            for position, (item, rating) in enumerate(log)
        ]
        schema = {
            "user": pl.Int32,
            "item": pl.Int32,
            "rating": pl.Float32,
            "position": pl.Int32,
        }
        items = {"item": range(n_items), "item_id": [f"i{n}" for n in range(n_items)]}
        return Dataset(
            "toy",
            pl.DataFrame(rows, schema=schema, orient="row"),
            pl.DataFrame({**items, "title": items["item_id"], "details": ""}),
            pl.DataFrame({"user": range(len(logs)), "user_id": list(logs), "profile": ""}),
        )

    return make
