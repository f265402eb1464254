"""How training slows down with the catalogue: python benchmarks/catalogue.py [ITEMS …]

Seconds of one epoch of PRM over 5,400 generated lists, by IDs and then with text, on one thread.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from command import call
from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders import FittedRecommender, ListInputs, fit
from rlrf4rec.records import CandidateLists, Histories
from rlrf4rec.workers import one_thread

N_USERS, N_LISTS, N_READ, LIST_SIZE, TEXT_DIM = 2000, 6000, 10, 10, 448
N_VALIDATION = N_USERS // 10


def main(catalogues: list[int]) -> None:
    """Print a row a catalogue."""
    for n_items in catalogues:
        with one_thread():
            by_ids, with_text = _epochs(n_items)
        sys.stdout.write(
            f"{n_items:9,} items: {by_ids:5.1f} s by IDs, {with_text:5.1f} s of text\n"
        )


def _epochs(n_items: int) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    read = rng.integers(0, n_items, (N_USERS, N_READ))
    histories = Histories(
        read, np.full(read.shape, np.nan, np.float32), np.full(N_USERS, N_READ, np.int64)
    )
    users, zeros = np.arange(N_LISTS) % N_USERS, np.zeros(N_LISTS, np.int64)
    items = np.stack([rng.choice(n_items, LIST_SIZE, replace=False) for _ in range(N_LISTS)])
    labels = (np.arange(LIST_SIZE) == np.zeros((N_LISTS, 1))).astype(np.int64)
    lists = CandidateLists("uniform", users, zeros, zeros, items, labels)
    item_texts, user_texts = (
        rng.normal(size=(n, TEXT_DIM)).astype(np.float32) for n in (n_items, N_USERS)
    )

    def train(with_text: bool, base: FittedRecommender | None = None) -> FittedRecommender:
        return fit(
            RecommenderConfig(max_epochs=1, min_epochs=1),
            KnowledgeConfig(),
            "prm",
            ListInputs.from_numpy(
                histories,
                item_texts if with_text else None,
                user_texts if with_text else None,
                n_items,
            ),
            lists,
            users[:, None] if with_text else np.full((N_LISTS, 1), -1),
            users >= N_VALIDATION,
            users < N_VALIDATION,
            seed=0,
            base=base,
        )

    start = time.perf_counter()
    base = train(with_text=False)
    middle = time.perf_counter()
    train(with_text=True, base=base)
    return middle - start, time.perf_counter() - middle


if __name__ == "__main__":
    call(lambda given: main([int(n) for n in given] or [2000, 20_000, 200_000]), least=0)
