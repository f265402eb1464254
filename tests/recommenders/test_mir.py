"""What MIR has beyond the contract of every backbone: it reads the history as a list."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_world import SmallWorld

from rlrf4rec.recommenders import FittedRecommender
from rlrf4rec.recommenders.mir import MIR, SetToList
from rlrf4rec.records import Float32Array


@pytest.fixture(scope="module")
def mir(world: SmallWorld) -> FittedRecommender:
    return world.fit("mir")


def test_views_by_hand() -> None:
    """One candidate (0.5), two read items (1 and -1), all weights 1, no scaling (c = 1).

    The view of a set of one is that one. The item level and the only pair of fields give q v each:
    C = tanh(2 q v) = tanh(1), tanh(-1) = 0.7616, -0.7616. S = 0.25 and L = (0.5, -0.5), so the
    list's logits are tanh(0.5 + 0.25 * 0.7616) = 0.5982 and -0.5982, its weights 0.7679 and 0.2321,
    and its view is 0.5358.
    """
    between = SetToList(1, 1)
    torch.nn.init.ones_(between.item_level.weight)
    torch.nn.init.ones_(between.feature_level.weight)
    torch.nn.init.ones_(between.within_set.weight)
    torch.nn.init.ones_(between.within_list.weight)
    read = torch.tensor([[[1.0], [-1.0]]])
    of_set, of_list = between(torch.tensor([[[0.5]]]), read, torch.ones(1, 2, dtype=torch.bool))
    assert of_set.item() == pytest.approx(0.5)
    assert of_list.item() == pytest.approx(0.5358, abs=1e-4)


def test_padding_is_not_read() -> None:
    torch.manual_seed(0)
    between = SetToList(8, 2)
    candidates, read = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    mask = torch.ones(2, 3, dtype=torch.bool)
    padded = torch.cat([read, torch.randn(2, 4, 8)], dim=1)
    longer = torch.cat([mask, torch.zeros(2, 4, dtype=torch.bool)], dim=1)
    for view, same in zip(
        between(candidates, read, mask), between(candidates, padded, longer), strict=True
    ):
        torch.testing.assert_close(view, same)


def test_nothing_read_is_an_empty_view() -> None:
    torch.manual_seed(0)
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    _, of_list = SetToList(8, 2)(torch.randn(1, 5, 8), torch.randn(1, 3, 8), nothing)
    assert not of_list.any()


def test_the_order_of_reading_counts(mir: FittedRecommender, world: SmallWorld) -> None:
    """Target attention sums the history up in any order; the GRU along it does not."""
    histories = world.histories
    items, ratings = histories.items.copy(), histories.ratings.copy()
    items[1:, :3], ratings[1:, :3] = items[1:, 2::-1], ratings[1:, 2::-1]
    turned = replace(world, histories=replace(histories, items=items, ratings=ratings))
    assert np.abs(_scores(turned, mir) - _scores(world, mir)).max() > 1e-6
    indifferent = world.fit("setrank")
    np.testing.assert_allclose(_scores(turned, indifferent), _scores(world, indifferent), atol=1e-5)


def test_it_begins_with_the_candidates_own_scores(world: SmallWorld) -> None:
    untrained = world.fit("mir", learning_rate=1e-12, weight_decay=0)
    prepared = untrained.model.features.prepare(world.inputs)
    rows = torch.from_numpy(world.own_text[:, None])
    texts = untrained.model.features.read_texts(prepared, rows.unique())
    with torch.no_grad():
        _, alone = untrained.model.features(
            prepared,
            texts,
            torch.from_numpy(world.lists.user),
            torch.from_numpy(world.lists.items),
            rows,
        )
    np.testing.assert_allclose(_scores(world, untrained), alone.squeeze(1).numpy(), atol=1e-5)


def test_without_a_history_it_says_so(mir: FittedRecommender) -> None:
    assert isinstance(mir.model, MIR)
    with pytest.raises(ValueError, match="pass a history"):
        mir.model.compare(torch.zeros(1, 3, 8))


def _scores(world: SmallWorld, model: FittedRecommender) -> Float32Array:
    return model.score(world.inputs, world.lists, world.own_text)
