"""A small world in which a user likes an item exactly if their texts point the same way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders import FittedRecommender, ListInputs, fit
from rlrf4rec.records import BoolArray, CandidateLists, Float32Array, Histories, IntArray

BACKBONES = ["dlcm", "prm", "setrank", "mir", "sasrec", "gru4rec"]
N_USERS, N_ITEMS, LIST_SIZE, TEXT_DIM = 40, 30, 6, 8


@dataclass(frozen=True)
class SmallWorld:
    histories: Histories
    item_vectors: Float32Array
    user_vectors: Float32Array
    lists: CandidateLists
    train: BoolArray
    validation: BoolArray

    @property
    def inputs(self) -> ListInputs:
        return ListInputs.from_numpy(self.histories, self.item_vectors, self.user_vectors)

    @property
    def own_text(self) -> IntArray:
        """``[n]``: the text of each list's user."""
        return self.lists.user

    def fit(
        self,
        backbone: str = "setrank",
        *,
        seed: int = 0,
        base: FittedRecommender | None = None,
        **settings: float,
    ) -> FittedRecommender:
        return fit(
            small_config(**settings),
            KnowledgeConfig(match_dim=4),
            backbone,
            self.inputs,
            self.lists,
            self.own_text[:, None],
            self.train,
            self.validation,
            seed=seed,
            base=base,
        )

    def fit_ids(
        self, backbone: str = "setrank", *, seed: int = 0, **settings: float
    ) -> FittedRecommender:
        """`fit` without any text."""
        return fit(
            small_config(**settings),
            KnowledgeConfig(match_dim=4),
            backbone,
            ListInputs.from_numpy(self.histories, None, None, N_ITEMS),
            self.lists,
            np.full((len(self.lists), 1), -1),
            self.train,
            self.validation,
            seed=seed,
        )


def small_config(**settings: float) -> RecommenderConfig:
    return RecommenderConfig.model_validate(
        {
            "embedding_dim": 8,
            "hidden_dim": 8,
            "learning_rate": 1e-2,
            "batch_size": 32,
            "max_epochs": 4,
            "min_epochs": 1,
            "dropout": 0.1,
        }
        | settings
    )


def make_world() -> SmallWorld:
    rng = np.random.default_rng(0)
    users = rng.normal(size=(N_USERS, TEXT_DIM)).astype(np.float32)
    items = rng.normal(size=(N_ITEMS, TEXT_DIM)).astype(np.float32)
    owner = np.repeat(np.arange(N_USERS), 5)
    candidates = np.stack([rng.choice(N_ITEMS, LIST_SIZE, replace=False) for _ in owner])
    liked = np.einsum("nd,nld->nl", users[owner], items[candidates]) > 0
    history = rng.integers(0, N_ITEMS, size=(N_USERS, 4))
    ratings = rng.integers(1, 6, size=(N_USERS, 4)).astype(np.float32)
    history[:, 3], ratings[:, 3] = -1, np.nan
    history[0], ratings[0] = -1, np.nan  # a user who has read nothing
    chunk = np.tile(np.arange(5), N_USERS)
    lists = CandidateLists(
        "uniform", owner, chunk, np.zeros_like(owner), candidates, liked.astype(np.int64)
    )
    lengths = (history >= 0).sum(1)
    return SmallWorld(
        Histories(history, ratings, lengths), items, users, lists, owner < 30, owner >= 30
    )
