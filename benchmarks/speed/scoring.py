"""Rewarding users times texts times lists, against one text at a time."""

from __future__ import annotations

import numpy as np

from rlrf4rec.recommenders import FittedRecommender, fit
from rlrf4rec.records import Float32Array
from speed.measure import Row, in_turn, medians
from speed.recommending import Task, task

N_TEXTS, N_USERS, ROUNDS = 8, 200, 5
N_SINGLE = 40
"""Texts that are scored one at a time: all would take minutes."""


def vs_single() -> Row:
    """Texts a second: all texts of all users in one call, against a call a text."""
    work = task()
    fitted = fit(
        work.recommender.model_copy(update={"max_epochs": 2, "min_epochs": 1}),
        work.knowledge,
        "prm",
        work.inputs,
        work.lists,
        work.rows,
        ~work.test & ~work.validation,
        work.validation,
        seed=0,
    )
    mine = np.flatnonzero(work.lists.user < N_USERS)
    lists = work.lists.select(mine)
    # Other users' practice texts fill up to N: what is scored is a vector, whoever wrote it.
    width = work.rows.shape[1]
    n_vectors = len(work.inputs.user_knowledge) if work.inputs.user_knowledge is not None else 0
    more = (work.rows[mine][:, :1] + np.arange(1, N_TEXTS - width + 1) * 7) % n_vectors
    rows = np.concatenate([work.rows[mine], more], axis=1)
    first = fitted.score(work.inputs, lists, rows)
    single = [(user, text) for user in range(N_SINGLE // 4) for text in range(4)]
    for user, text in single:
        own = lists.user == user
        gap = np.abs(_one(fitted, work, user, text, rows, mine) - first[own, text]).max()
        if gap > 1e-5:
            raise RuntimeError(f"scores of user {user}, text {text} differ by {gap}")
    rounds = in_turn(
        lambda: fitted.score(work.inputs, lists, rows),
        lambda: [_one(fitted, work, user, text, rows, mine) for user, text in single],
        ROUNDS,
    )
    ours, theirs = medians(rounds)
    scale = N_USERS * N_TEXTS / len(single)
    return Row(
        "score_vs_single",
        [scale * theirs / ours for ours, theirs in rounds],
        target=50.0,
        details={
            "texts_per_second": N_USERS * N_TEXTS / ours,
            "peer_texts_per_second": len(single) / theirs,
            "scores_per_second": len(lists) * N_TEXTS * lists.items.shape[1] / ours,
        },
    )


def _one(
    fitted: FittedRecommender, work: Task, user: int, text: int, rows: np.ndarray, mine: np.ndarray
) -> Float32Array:
    own = work.lists.user[mine] == user
    return fitted.score(work.inputs, work.lists.select(mine[own]), rows[own, text])
