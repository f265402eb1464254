from __future__ import annotations

import numpy as np
import pytest
from small_world import SmallWorld

from rlrf4rec.recommenders.item_odds import STRENGTH, item_log_odds


def test_by_hand() -> None:
    """Shown 15, 15 and 0 times, 12, 3 and 0 times as a positive: half of all appearances.

    Five more appearances, half of them positive, give 14.5 to 5.5, 5.5 to 14.5 and 2.5 to 2.5:
    ln(14.5 / 5.5) = 0.9694, its negative, and 0.
    """
    assert STRENGTH == 5
    odds = item_log_odds(np.array([15.0, 15, 0]), np.array([12.0, 3, 0]))
    np.testing.assert_allclose(odds, [0.9694, -0.9694, 0], atol=1e-4)


def test_odds_count_from_those_of_all_items() -> None:
    """Items alike, a quarter of the appearances positive: nothing sets one apart."""
    assert item_log_odds(np.array([40.0, 80]), np.array([10.0, 20])) == pytest.approx([0, 0])


@pytest.mark.parametrize("backbone", ["setrank", "mir", "sasrec", "gru4rec"])
def test_training_starts_there(world: SmallWorld, backbone: str) -> None:
    """With a learning rate of next to nothing the bias is the odds of the training lists alone."""
    model = world.fit(backbone, learning_rate=1e-12).model
    positives = world.lists.labels.sum(1)
    telling = (positives > 0) & (positives < world.lists.labels.shape[1])
    trained = world.lists.select(world.train & telling)
    shown, positive = (
        np.bincount(items.reshape(-1), minlength=30).astype(np.float64)
        for items in (trained.items, trained.items[trained.labels > 0])
    )
    bias = model.features.item_bias.weight.detach().squeeze(1).numpy()
    np.testing.assert_allclose(bias, item_log_odds(shown, positive), atol=1e-5)
