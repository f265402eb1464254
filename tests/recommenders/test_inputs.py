from __future__ import annotations

from copy import copy

import numpy as np
import pytest
from small_world import SmallWorld

from rlrf4rec.errors import DataError
from rlrf4rec.recommenders import ListInputs


def test_ratings_count_from_the_users_own_mean(world: SmallWorld) -> None:
    prepared = world.fit().model.features.prepare(world.inputs)
    assert not prepared.history_mask[0].any()
    assert prepared.history_ratings[0].tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(prepared.history_ratings.sum(1), 0, atol=1e-5)


def test_damaged_vectors_are_refused(world: SmallWorld) -> None:
    vectors = world.item_vectors.copy()
    vectors[2, 1] = np.nan
    with pytest.raises(DataError, match=r"no number at \(2, 1\)"):
        ListInputs.from_numpy(world.histories, vectors, None)


def test_two_encoders_are_refused(world: SmallWorld) -> None:
    with pytest.raises(DataError, match="dimension 5 for users, 8 for items"):
        ListInputs.from_numpy(world.histories, world.item_vectors, world.user_vectors[:, :5])


def test_a_read_item_outside_the_catalogue_is_refused(world: SmallWorld) -> None:
    with pytest.raises(DataError, match="read items between -1 and 9"):
        ListInputs.from_numpy(world.histories, world.item_vectors[:10], None)


@pytest.mark.parametrize("texts", [True, False])
def test_what_a_worker_gets_is_what_was_sent(world: SmallWorld, texts: bool) -> None:
    """Copies are made as pickling makes them."""
    sent = ListInputs.from_numpy(
        world.histories,
        world.item_vectors if texts else None,
        world.user_vectors if texts else None,
        len(world.item_vectors),
    )
    got = copy(sent)
    assert got.n_items == sent.n_items
    for name in ("history_items", "history_ratings", "item_knowledge", "user_knowledge"):
        one, other = getattr(sent, name), getattr(got, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one.numpy(), other.numpy())
