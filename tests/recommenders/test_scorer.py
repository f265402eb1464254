"""Scoring with the catalogue taken in before against scoring from scratch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_world import N_ITEMS, SmallWorld

from rlrf4rec.recommenders import FittedRecommender
from rlrf4rec.records import CandidateLists, Float32Array, IntArray


def from_scratch(
    fitted: FittedRecommender, world: SmallWorld, lists: CandidateLists, rows: IntArray
) -> Float32Array:
    """The model's own forward pass, which takes every text in anew."""
    model = fitted.model
    with torch.no_grad():
        prepared = model.features.prepare(world.inputs)
        indices = (torch.from_numpy(index) for index in (lists.user, lists.items, rows))
        scores: Float32Array = model(prepared, *indices).numpy()
    return scores


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_same_to_the_last_bit(fitted: FittedRecommender, world: SmallWorld, size: int) -> None:
    rng = np.random.default_rng(size)
    chosen = rng.choice(len(world.lists), size, replace=False)
    items = np.stack([rng.choice(N_ITEMS, 11, replace=False) for _ in chosen])
    lists = replace(world.lists.select(chosen), items=items, labels=np.zeros_like(items))
    rows = rng.integers(-1, len(world.user_vectors), (size, 3))
    plain = from_scratch(fitted, world, lists, rows)
    scorer = fitted.scorer(world.inputs)
    for _ in range(2):
        np.testing.assert_array_equal(scorer.score(world.inputs, lists, rows), plain)
    np.testing.assert_array_equal(fitted.score(world.inputs, lists, rows), plain)


def test_the_catalogue_is_not_read_again(fitted: FittedRecommender, world: SmallWorld) -> None:
    scorer = fitted.scorer(world.inputs)
    without = replace(world.inputs, item_knowledge=None)
    np.testing.assert_array_equal(
        scorer.score(without, world.lists, world.own_text),
        scorer.score(world.inputs, world.lists, world.own_text),
    )
