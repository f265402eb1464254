from __future__ import annotations

import torch

from rlrf4rec.recommenders.knowledge_fusion import (
    LEARNED_FROM,
    PRINCIPAL_DIM,
    LearnedMatch,
    TextSpace,
)


def test_texts_that_look_alike_are_spread_out() -> None:
    """Vectors in a narrow cone come out centred, with unit variance over all coordinates."""
    torch.manual_seed(0)
    cone = torch.ones(12) + 0.01 * torch.randn(50, 12)
    space = TextSpace(12)
    space.learn(cone, cone + 3)
    for spread in (space.items(cone), space.users(cone + 3)):
        torch.testing.assert_close(spread.mean(0), torch.zeros(12), atol=1e-3, rtol=0)
        assert abs(float(spread.square().mean()) - 1) < 1e-3


def test_only_leading_directions_are_kept() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(200, PRINCIPAL_DIM + 20) * 0.01
    vectors[:, -1] *= 1000  # the one coordinate with a large variance
    space = TextSpace(PRINCIPAL_DIM + 20)
    space.learn(vectors, None)
    assert space.items(vectors).shape == (200, PRINCIPAL_DIM)
    assert abs(float(space.basis[-1, 0])) > 0.99


def test_directions_of_many_vectors_are_learned_from_evenly_spaced_ones() -> None:
    """One more than twice `LEARNED_FROM` rows: every third one is looked at."""
    torch.manual_seed(0)
    vectors = torch.randn(2 * LEARNED_FROM + 1, 3)
    vectors[::3] *= torch.tensor([1.0, 10.0, 1.0])
    vectors[1::3] *= torch.tensor([100.0, 1.0, 1.0])
    space = TextSpace(3)
    space.learn(vectors, None)
    assert space.basis[:, 0].abs().argmax() == 1
    looked_at = space.items(vectors)[::3]
    assert abs(float(looked_at.square().mean()) - 1) < 1e-3


def test_match_begins_as_the_texts_dot_product() -> None:
    torch.manual_seed(0)
    user, item = torch.randn(6), torch.randn(4, 6)
    match = LearnedMatch(6, 6)
    share = match.score(match.user(user) * match.item(item))
    torch.testing.assert_close(share, match.weight * (item @ user) / 6**0.5)
