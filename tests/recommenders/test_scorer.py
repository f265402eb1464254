"""Scoring with the inputs taken in once against scoring from scratch, on random lists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_world import N_ITEMS, N_USERS, SmallWorld

from rlrf4rec.errors import DataError
from rlrf4rec.recommenders import FittedRecommender
from rlrf4rec.records import CandidateLists, Histories, IntArray


def random_lists(world: SmallWorld, size: int) -> tuple[CandidateLists, IntArray]:
    """Lists of eleven, and three texts each, some of them none and some of another user."""
    rng = np.random.default_rng(size)
    chosen = rng.choice(len(world.lists), size, replace=False)
    items = np.stack([rng.choice(N_ITEMS, 11, replace=False) for _ in chosen])
    lists = replace(world.lists.select(chosen), items=items, labels=np.zeros_like(items))
    return lists, rng.integers(-1, len(world.user_vectors), (size, 3))


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_same_scores(fitted: FittedRecommender, world: SmallWorld, size: int) -> None:
    """Within 1e-6: a matrix product of all texts sums up in another order than one of a few."""
    lists, rows = random_lists(world, size)
    scorer = fitted.scorer(world.inputs)
    for wanted in (rows, rows[:, 0]):
        plain = fitted.score(world.inputs, lists, wanted)
        np.testing.assert_allclose(scorer.score(lists, wanted), plain, rtol=0, atol=1e-6)


def test_other_histories_in_place_of_the_stored_ones(
    fitted: FittedRecommender, world: SmallWorld
) -> None:
    lists, rows = random_lists(world, 20)
    rng = np.random.default_rng(0)
    items = rng.integers(0, N_ITEMS, (N_USERS, 3))
    given = Histories(
        items, rng.integers(1, 6, items.shape).astype(np.float32), np.full(N_USERS, 3)
    )
    inputs = replace(world, histories=given).inputs
    plain = fitted.score(inputs, lists, rows)
    scorer = fitted.scorer(world.inputs)
    found = scorer.score(lists, rows, given)
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-6)
    assert np.abs(found - scorer.score(lists, rows)).max() > 1e-4


def test_what_is_out_of_range_is_refused(fitted: FittedRecommender, world: SmallWorld) -> None:
    scorer = fitted.scorer(world.inputs)
    lists, rows = random_lists(world, 4)
    with pytest.raises(DataError, match="knowledge rows"):
        scorer.score(lists, rows + len(world.user_vectors))
    unread = Histories(np.full((4, 2), N_ITEMS), np.zeros((4, 2), np.float32), np.full(4, 2))
    with pytest.raises(DataError, match="read items"):
        scorer.score(replace(lists, user=np.arange(4)), rows, unread)
