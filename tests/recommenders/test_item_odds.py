from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_world import SmallWorld

from rlrf4rec.recommenders.item_odds import STRENGTH, item_log_odds, starting_odds
from rlrf4rec.records import CandidateLists


def test_by_hand() -> None:
    """Shown 15, 15 and 0 times, 12, 3 and 0 times as a positive: half of all appearances.

    Five more appearances, half of them positive, give 14.5 to 5.5, 5.5 to 14.5 and 2.5 to 2.5:
    ln(14.5 / 5.5) = 0.9694, its negative, and 0.
    """
    assert STRENGTH == 5
    odds = item_log_odds(np.array([15.0, 15, 0]), np.array([12.0, 3, 0]), 0.5)
    np.testing.assert_allclose(odds, [0.9694, -0.9694, 0], atol=1e-4)


def test_odds_count_from_those_of_all_items() -> None:
    """Items alike, a quarter of the appearances positive: nothing sets one apart."""
    assert item_log_odds(np.array([40.0, 80]), np.array([10.0, 20]), 0.25) == pytest.approx([0, 0])


def _lists(rows: list[tuple[int, int, int]]) -> CandidateLists:
    """Lists of two: the user, the positive and the negative."""
    user, positive, negative = np.array(rows).T
    return CandidateLists(
        "popular",
        user,
        chunk=np.zeros_like(user),
        draw=np.zeros_like(user),
        items=np.stack([positive, negative], axis=1),
        labels=np.tile([1, 0], (len(rows), 1)),
    )


def test_what_all_users_like_is_where_training_starts() -> None:
    """Item 0 stands above item 1 with each of three users: the two others foretell the third.

    Shown three times, a positive three times or never: 5.5 to 2.5.
    """
    odds = starting_odds(_lists([(0, 0, 1), (1, 0, 1), (2, 0, 1)]), 3)
    np.testing.assert_allclose(odds, [np.log(5.5 / 2.5), -np.log(5.5 / 2.5), 0])


def test_what_each_user_alone_likes_is_not() -> None:
    """Everybody's positive is somebody else's negative, so that others' odds are always wrong.

    Item 0 is a positive twice of three times by user 0 alone; to user 1 it is the negative.
    """
    lists = _lists([(0, 0, 1), (0, 0, 2), (1, 3, 0), (2, 1, 3), (3, 2, 1)])
    shown, positive = np.array([3.0, 3, 2, 2]), np.array([2.0, 1, 1, 1])
    assert item_log_odds(shown, positive, 0.5)[0] > 0.1
    assert starting_odds(lists, 4).tolist() == [0, 0, 0, 0]


def test_one_user_foretells_nobody() -> None:
    """The odds of all other users, of whom there are none, are no order."""
    assert starting_odds(_lists([(0, 0, 1), (0, 0, 1)]), 2).tolist() == [0, 0]


@pytest.mark.parametrize("backbone", ["setrank", "mir", "sasrec", "gru4rec"])
def test_training_starts_there(world: SmallWorld, backbone: str) -> None:
    """With a learning rate of next to nothing the bias is the odds of the training lists alone."""
    labels = (world.lists.items < 15).astype(np.int64)
    liked = replace(world, lists=replace(world.lists, labels=labels))
    positives = labels.sum(1)
    telling = (positives > 0) & (positives < labels.shape[1])
    odds = starting_odds(liked.lists.select(world.train & telling), 30)
    assert odds[0] > 1 > -1 > odds[-1]
    bias = liked.fit(backbone, learning_rate=1e-12).model.features.item_bias.weight
    np.testing.assert_allclose(bias.detach().squeeze(1).numpy(), odds, atol=1e-5)
