"""The contract that every backbone keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_world import SmallWorld

from rlrf4rec.errors import DataError, WorkspaceError
from rlrf4rec.recommenders import FittedRecommender, ListInputs
from rlrf4rec.recommenders.base import few
from rlrf4rec.recommenders.sequential import SequentialRecommender


def test_one_score_a_candidate(fitted: FittedRecommender, world: SmallWorld) -> None:
    scores = fitted.score(world.inputs, world.lists, world.own_text)
    assert scores.shape == world.lists.items.shape
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_no_lists_no_scores(fitted: FittedRecommender, world: SmallWorld) -> None:
    none = np.zeros(len(world.lists), dtype=bool)
    scores = fitted.score(world.inputs, world.lists.select(none), world.own_text[none])
    assert scores.shape == (0, world.lists.items.shape[1])


def test_eight_lists_at_once_score_as_one_by_one(
    fitted: FittedRecommender, world: SmallWorld
) -> None:
    together = fitted.score(world.inputs, world.lists.select(np.arange(8)), world.own_text[:8])
    alone = [
        fitted.score(world.inputs, world.lists.select(np.array([row])), world.own_text[[row]])[0]
        for row in range(8)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_several_texts_score_as_one_by_one(fitted: FittedRecommender, world: SmallWorld) -> None:
    rows = np.random.default_rng(1).integers(-1, len(world.user_vectors), (len(world.lists), 3))
    together = fitted.score(world.inputs, world.lists, rows)
    for text in range(3):
        alone = fitted.score(world.inputs, world.lists, rows[:, text])
        np.testing.assert_allclose(together[:, text], alone, atol=1e-5)
    assert np.abs(together[:, 0] - together[:, 1]).max() > 1e-3


def test_texts_of_the_lists_own_items_rank_as_those_of_the_whole_catalogue(
    fitted: FittedRecommender, world: SmallWorld
) -> None:
    """A list of 6 and a history of 4 are less than half of 30 items: only theirs are taken in."""
    model, first = fitted.model, slice(1, 2)
    prepared = model.features.prepare(world.inputs)
    users, items, own = (
        torch.from_numpy(part[first])
        for part in (world.lists.user, world.lists.items, world.own_text)
    )
    whole = model.features.read_texts(prepared, own)
    expected = model.rank(prepared, whole, users, items, torch.zeros(1, 1, dtype=torch.int64))
    scores = model(prepared, users, items, own[:, None])
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    weights = model.features.text_parameters()
    gradients, expected_gradients = (
        torch.autograd.grad(some.square().sum(), weights, allow_unused=True)
        for some in (scores, expected)
    )
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_only_items_that_were_taken_in_are_there(
    fitted: FittedRecommender, world: SmallWorld
) -> None:
    features = fitted.model.features
    prepared = features.prepare(world.inputs)
    texts = features.read_texts(prepared, torch.tensor([0]), torch.tensor([[7, 3], [7, 5]]))
    whole = features.read_texts(prepared, torch.tensor([0]))
    assert texts.item is not None and whole.item is not None
    assert len(texts.item) == 3
    asked = torch.tensor([5, 7])
    torch.testing.assert_close(texts.of_items(texts.item, asked), whole.item[asked])
    with pytest.raises(IndexError):
        texts.of_items(texts.item, torch.tensor([4]))


def test_few_items_are_less_than_half_of_the_catalogue() -> None:
    assert few([torch.zeros(2, 2), torch.zeros(1)], 10) is None
    found = few([torch.tensor([[1, 2], [3, 4]]), torch.tensor([5])], 11)
    assert found is not None
    assert found.tolist() == [1, 2, 3, 4, 5]


def test_candidates_in_another_order_get_the_same_scores(
    fitted: FittedRecommender, world: SmallWorld
) -> None:
    order = np.random.default_rng(2).permutation(world.lists.items.shape[1])
    turned = replace(world.lists, items=world.lists.items[:, order])
    np.testing.assert_allclose(
        fitted.score(world.inputs, turned, world.own_text),
        fitted.score(world.inputs, world.lists, world.own_text)[:, order],
        atol=1e-5,
    )


def test_other_candidates_change_a_score(fitted: FittedRecommender, world: SmallWorld) -> None:
    """It is a reranker: a list without its last candidate scores the rest differently.

    But those that rank a whole catalogue: they score each candidate on its own.
    """
    shorter = replace(world.lists, items=world.lists.items[:, :-1])
    whole = fitted.score(world.inputs, world.lists, world.own_text)[:, :-1]
    part = fitted.score(world.inputs, shorter, world.own_text)
    changed = float(np.abs(whole - part).max())
    if isinstance(fitted.model, SequentialRecommender):
        assert changed < 1e-5
    else:
        assert changed > 1e-4


def test_a_list_longer_than_in_training(fitted: FittedRecommender, world: SmallWorld) -> None:
    longer = replace(world.lists, items=np.tile(np.arange(20), (len(world.lists), 1)))
    assert np.isfinite(fitted.score(world.inputs, longer, world.own_text)).all()


def test_user_without_a_text_is_ranked_as_if_there_were_no_texts(
    fitted: FittedRecommender, world: SmallWorld
) -> None:
    silent = np.full(len(world.lists), -1)
    no_texts = ListInputs.from_numpy(world.histories, world.item_vectors, None)
    np.testing.assert_allclose(
        fitted.score(world.inputs, world.lists, silent),
        fitted.score(no_texts, world.lists, silent),
        atol=1e-6,
    )


def test_labels_are_not_read(fitted: FittedRecommender, world: SmallWorld) -> None:
    blind = replace(world.lists, labels=np.zeros_like(world.lists.labels))
    np.testing.assert_array_equal(
        fitted.score(world.inputs, blind, world.own_text),
        fitted.score(world.inputs, world.lists, world.own_text),
    )


def test_stored_and_loaded_scores_alike(
    fitted: FittedRecommender, world: SmallWorld, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    state = torch.random.get_rng_state()
    loaded = FittedRecommender.load(tmp_path / "model")
    assert torch.equal(state, torch.random.get_rng_state())
    assert (loaded.backbone, loaded.config, loaded.knowledge, loaded.history) == (
        fitted.backbone,
        fitted.config,
        fitted.knowledge,
        fitted.history,
    )
    np.testing.assert_array_equal(
        loaded.score(world.inputs, world.lists, world.own_text),
        fitted.score(world.inputs, world.lists, world.own_text),
    )


def test_damaged_files_are_named(fitted: FittedRecommender, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(WorkspaceError, match="format 1 in"):
        FittedRecommender.load(tmp_path)
    with pytest.raises(WorkspaceError, match="FileNotFoundError"):
        FittedRecommender.load(tmp_path / "elsewhere")


def test_unknown_item_and_text_are_refused(fitted: FittedRecommender, world: SmallWorld) -> None:
    items = world.lists.items.copy()
    items[3, 1] = 99
    with pytest.raises(DataError, match=r"99 at \(3, 1\)"):
        fitted.score(world.inputs, replace(world.lists, items=items), world.own_text)
    with pytest.raises(DataError, match="knowledge rows between -1 and 39"):
        fitted.score(world.inputs, world.lists, world.own_text + 40)
    with pytest.raises(DataError, match="knowledge rows for"):
        fitted.score(world.inputs, world.lists, world.own_text[:3])


def test_texts_of_another_encoder_are_refused(fitted: FittedRecommender, world: SmallWorld) -> None:
    other = ListInputs.from_numpy(world.histories, world.item_vectors[:, :5], None)
    silent = np.full(len(world.lists), -1)
    with pytest.raises(DataError, match="dimension 5"):
        fitted.score(other, world.lists, silent)
    without = ListInputs.from_numpy(world.histories, None, None)
    with pytest.raises(DataError, match="items' text vectors"):
        fitted.score(without, world.lists, silent)
