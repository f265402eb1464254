"""A finished run's folder, made in a second: a real recommender on a made-up log, no LLM.

Six tastes of 4 users; a user likes the items of the own taste, and texts say which taste it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.evaluation.results import Results, SystemRow, write_results
from rlrf4rec.recommenders import ListInputs, fit
from rlrf4rec.records import CandidateLists, Float32Array, Histories, IntArray
from rlrf4rec.workspace import Workspace

N_TASTES, USERS_A_TASTE, ITEMS_A_TASTE = 6, 4, 5
N_USERS, N_ITEMS = N_TASTES * USERS_A_TASTE, N_TASTES * ITEMS_A_TASTE
HISTORY_SIZE, LIST_SIZE = 3, 4
TEXTLESS_USER = "u3"


def make_finished_run(
    folder: Path, *, user_texts: bool = True, item_texts: bool = True, n_unmet_items: int = 0
) -> Path:
    """Write ``run.json``, ``results.json`` and ``deployed/`` as a run does.

    Args:
        folder: of the run.
        user_texts: whether the recommender reads them.
        item_texts: likewise.
        n_unmet_items: further items of the catalogue, in no list and no history.
    """
    Workspace(folder).create()
    write_results(folder / "results.json", _results())
    rng = np.random.default_rng(0)
    taste = np.arange(N_USERS) // USERS_A_TASTE
    liked = taste[:, None] * ITEMS_A_TASTE + np.arange(ITEMS_A_TASTE)
    read = np.array([rng.permutation(row)[:HISTORY_SIZE] for row in liked])
    histories = Histories(
        read,
        rng.integers(3, 6, read.shape).astype(np.float32),
        np.full(N_USERS, HISTORY_SIZE),
    )
    lists = _lists(rng, liked, read)
    item_taste = np.arange(N_ITEMS + n_unmet_items) // ITEMS_A_TASTE
    item_vectors = _near(rng, item_taste)
    text_rows = np.arange(N_USERS)
    text_rows[int(TEXTLESS_USER[1:])] = -1
    texts = _near(rng, taste)
    knowledge = KnowledgeConfig(match_dim=4, user=user_texts, item=item_texts)
    fitted = fit(
        RecommenderConfig(embedding_dim=4, hidden_dim=8, max_epochs=3, min_epochs=1),
        knowledge,
        "prm",
        ListInputs.from_numpy(
            histories,
            item_vectors if item_texts else None,
            texts if user_texts else None,
        ),
        lists,
        (text_rows if user_texts else np.full_like(text_rows, -1))[lists.user][:, None],
        np.ones(len(lists), dtype=bool),
        np.zeros(len(lists), dtype=bool),
        seed=0,
    )
    deployed = folder / "deployed"
    fitted.save(deployed / "recommender")
    save_file(
        {"items": item_vectors, "texts": texts, "rows": text_rows},
        deployed / "vectors.safetensors",
    )
    save_file(
        {"items": read, "ratings": histories.ratings, "lengths": histories.lengths},
        deployed / "histories.safetensors",
    )
    (deployed / "log.json").write_text('{"ratings": [1.0, 5.0]}', encoding="utf-8")
    _frame("item", len(item_taste)).write_parquet(deployed / "items.parquet")
    users = _frame("user", N_USERS)
    users.write_parquet(deployed / "users.parquet")
    users.with_columns(
        pl.lit(0, dtype=pl.Int32).alias("sample"),
        pl.Series("text", [f"Genres: taste {number}" for number in taste]),
    ).write_parquet(deployed / "texts.parquet")
    return folder


def _frame(what: str, size: int) -> pl.DataFrame:
    return pl.DataFrame({what: range(size), f"{what}_id": [f"{what[0]}{n}" for n in range(size)]})


def _near(rng: np.random.Generator, taste: IntArray) -> Float32Array:
    """Text vectors ``[len(taste), 8]`` that lie close to those of the same taste."""
    noise = rng.normal(scale=0.1, size=(len(taste), 8))
    vectors: Float32Array = (np.eye(8)[taste] + noise).astype(np.float32)
    return vectors


def _lists(rng: np.random.Generator, liked: IntArray, read: IntArray) -> CandidateLists:
    """One list a user: the two liked items that are not read, among two of other tastes."""
    items, labels = [], []
    for user in range(N_USERS):
        positives = np.setdiff1d(liked[user], read[user])
        negatives = rng.choice(np.setdiff1d(np.arange(N_ITEMS), liked[user]), 2, replace=False)
        items.append([*positives, *negatives])
        labels.append([1, 1, 0, 0])
    zeros = np.zeros(N_USERS, dtype=np.int64)
    return CandidateLists(
        "popular", np.arange(N_USERS), zeros, zeros, np.array(items), np.array(labels)
    )


def _results() -> Results:
    row = {"metric": "ndcg@5", "n_users": N_USERS, "n_lists": N_USERS, "kind": "popular"}
    return Results(
        dataset="tastes",
        lists="popular",
        folds=1,
        seeds=[0],
        n_users=N_USERS,
        n_lists=N_USERS,
        systems=[
            SystemRow(system="random", backbone=None, mean=0.4, ci95=(0.39, 0.41), **row),
            SystemRow(system="id", backbone="prm", mean=0.5712, ci95=(0.55, 0.59), **row),
        ],
        comparisons=[],
        rewards=[],
        seconds={"data": 1.0},
        config={},
    )
