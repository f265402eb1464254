"""Recommenders that read a sequence: what lists and catalogues must agree on, and next items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_world import SmallWorld, small_config
from torch import Tensor

from rlrf4rec.config import KnowledgeConfig
from rlrf4rec.errors import ConfigError, DataError
from rlrf4rec.recommenders import FittedRecommender, ListInputs, next_item
from rlrf4rec.recommenders.base import few
from rlrf4rec.recommenders.next_item import fit_next_item, sampled_cross_entropy
from rlrf4rec.recommenders.sequential import SequentialRecommender
from rlrf4rec.records import PADDING, Histories, IntArray

N_ITEMS = 12


@pytest.fixture(scope="module", params=["sasrec", "gru4rec"])
def sequential(request: pytest.FixtureRequest, world: SmallWorld) -> FittedRecommender:
    return world.fit(request.param)


@pytest.mark.parametrize("silent", [False, True])
def test_lists_score_as_the_catalogue(
    sequential: FittedRecommender, world: SmallWorld, silent: bool
) -> None:
    users = np.arange(len(world.user_vectors))
    texts = np.full_like(users, PADDING) if silent else users
    catalogue = sequential.score_catalogue(world.inputs, users, None if silent else texts)
    assert catalogue.shape == (len(users), len(world.item_vectors))
    lists = world.lists
    np.testing.assert_allclose(
        catalogue[lists.user[:, None], lists.items],
        sequential.score(world.inputs, lists, texts[lists.user]),
        atol=1e-5,
    )


def test_eight_users_at_once_score_as_one_by_one(
    sequential: FittedRecommender, world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = np.arange(8)
    together = sequential.score_catalogue(world.inputs, users, users)
    monkeypatch.setattr("rlrf4rec.recommenders.fitted.SCORING_USERS", 1)
    np.testing.assert_allclose(
        together, sequential.score_catalogue(world.inputs, users, users), atol=1e-5
    )


def test_who_has_read_nothing_is_ranked_by_what_every_item_brings(
    sequential: FittedRecommender, world: SmallWorld
) -> None:
    """User 0 has no history: without a text only the items' biases are left."""
    model = sequential.model
    assert isinstance(model, SequentialRecommender)
    scores = sequential.score_catalogue(world.inputs, np.array([0]))[0]
    np.testing.assert_array_equal(scores, model.features.item_bias.weight.detach()[:, 0])


def test_no_state_knows_a_later_item(sequential: FittedRecommender) -> None:
    model = sequential.model
    assert isinstance(model, SequentialRecommender)
    read = torch.randn(2, 3, 8, generator=torch.manual_seed(0))
    changed = read.clone()
    changed[:, 2] *= -1
    with torch.no_grad():
        before, after = model.encode(read), model.encode(changed)
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert (before[:, 2] - after[:, 2]).abs().max() > 1e-3


def test_what_ranks_lists_only_is_told_apart(world: SmallWorld) -> None:
    with pytest.raises(DataError, match="'setrank', which ranks candidate lists"):
        world.fit("setrank").score_catalogue(world.inputs, np.array([0]))
    with pytest.raises(ConfigError, match="'prm', which ranks candidate lists"):
        _fit(_circles(4), backbone="prm")


def test_unknown_users_and_texts_are_refused(
    sequential: FittedRecommender, world: SmallWorld
) -> None:
    with pytest.raises(DataError, match=r"users between 0 and 39"):
        sequential.score_catalogue(world.inputs, np.array([3, 40]))
    with pytest.raises(DataError, match="knowledge rows between -1 and 39"):
        sequential.score_catalogue(world.inputs, np.array([3]), np.array([40]))


def test_heads_must_divide_the_embedding(world: SmallWorld) -> None:
    with pytest.raises(ConfigError, match="n_heads"):
        world.fit("sasrec", embedding_dim=9)


def test_sampled_cross_entropy_by_hand() -> None:
    """Right 0 against ln 3: softmax 1/4, loss ln 4. A drawn item that is the right one itself does
    not count: right 0 against ln 3 alone again, not against (0, ln 3).
    """
    right = torch.zeros(2, 1)
    wrong = torch.tensor([[np.log(3), -torch.inf], [0.0, np.log(3)]])
    same = torch.tensor([[False, False], [True, False]])
    loss = sampled_cross_entropy(right, wrong, same)
    assert float(loss) == pytest.approx(np.log(4), abs=1e-6)


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec"])
@pytest.mark.parametrize("n_negatives", [N_ITEMS, 6])
def test_the_next_item_is_learned(backbone: str, n_negatives: int) -> None:
    """Everyone reads 0, 1, 2, … in a circle from a start of their own."""
    histories = _circles(60)
    model = _fit(histories, backbone=backbone, n_negatives=n_negatives)
    read = Histories(histories.items[:, :4], histories.ratings[:, :4], np.full(60, 4))
    scores = model.score_catalogue(_inputs(read), np.arange(60))
    following = (read.items[:, -1] + 1) % N_ITEMS
    assert (scores.argmax(axis=1) == following).mean() > 0.9
    losses = [epoch.train_loss for epoch in model.history]
    assert losses[-1] < losses[0] / 2


def test_same_seed_same_first_stage_and_the_callers_generator_is_left_alone() -> None:
    histories = _circles(20)
    state = torch.random.get_rng_state()
    first = _fit(histories, max_epochs=2)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(3)
    again, other = _fit(histories, max_epochs=2), _fit(histories, max_epochs=2, seed=1)
    assert first.history == again.history
    assert first.history != other.history


def test_validation_sequences_are_not_learned_from() -> None:
    """Validation sequences run backwards: training on them would change the training loss."""
    histories = _circles(20)
    held_out = np.arange(20) >= 15
    turned = histories.items.copy()
    turned[held_out] = turned[held_out, ::-1]
    kept, changed = (
        _fit(Histories(items, histories.ratings, histories.lengths), held_out, max_epochs=3)
        for items in (histories.items, turned)
    )
    assert [e.train_loss for e in kept.history] == [e.train_loss for e in changed.history]
    assert kept.history[-1].validation_loss != changed.history[-1].validation_loss


def test_sequences_of_one_item_say_nothing() -> None:
    one = np.array([[3, PADDING], [4, PADDING]])
    with pytest.raises(DataError, match="at least two items"):
        _fit(Histories(one, np.full((2, 2), np.nan, dtype=np.float32), np.ones(2, dtype=np.int64)))


def test_item_texts_are_read() -> None:
    """Items 0 to 5 and 6 to 11 share texts: one that nobody read is ranked as its twin."""
    rng = np.random.default_rng(0)
    vectors = np.tile(rng.normal(size=(6, 8)), (2, 1)).astype(np.float32)
    items = (rng.integers(0, 6, 60)[:, None] + np.arange(5)) % 6  # 6 to 11: read by nobody
    histories = Histories(items, np.full(items.shape, np.nan, np.float32), np.full(60, 5))
    model = fit_next_item(
        small_config(max_epochs=20, batch_size=8),
        KnowledgeConfig(),
        "sasrec",
        ListInputs.from_numpy(histories, vectors, None),
        np.ones(60, dtype=bool),
        np.zeros(60, dtype=bool),
        n_negatives=100,
        seed=0,
    )
    scores = model.score_catalogue(ListInputs.from_numpy(histories, vectors, None), np.arange(60))
    twins = np.array([np.corrcoef(row[:6], row[6:])[0, 1] for row in scores])
    assert twins.mean() > 0.3


def test_a_large_catalogues_texts_are_taken_in_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Batches of 8 sequences of 6 and 4 drawn items ask for 52 of 200 items at most."""
    rng = np.random.default_rng(0)
    inputs = ListInputs.from_numpy(_circles(20), rng.normal(size=(200, 8)).astype(np.float32), None)
    everybody = np.ones(20, dtype=bool)

    def losses() -> list[float]:
        model = fit_next_item(
            small_config(max_epochs=3, batch_size=8, dropout=0),
            KnowledgeConfig(),
            "sasrec",
            inputs,
            everybody,
            ~everybody,
            n_negatives=4,
            seed=0,
        )
        return [epoch.train_loss for epoch in model.history]

    asked: list[Tensor | None] = []
    monkeypatch.setattr(next_item, "few", lambda *given: asked.append(few(*given)) or asked[-1])
    in_parts = losses()
    assert asked and all(items is not None for items in asked)
    monkeypatch.setattr(next_item, "few", lambda items, n_items: None)
    assert in_parts == pytest.approx(losses(), abs=1e-5)


def _circles(n: int) -> Histories:
    starts: IntArray = np.random.default_rng(1).integers(0, N_ITEMS, n)
    items = (starts[:, None] + np.arange(6)) % N_ITEMS
    return Histories(items, np.full(items.shape, np.nan, dtype=np.float32), np.full(n, 6))


def _inputs(histories: Histories) -> ListInputs:
    return ListInputs.from_numpy(histories, None, None, N_ITEMS)


def _fit(
    histories: Histories,
    held_out: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None,
    *,
    backbone: str = "sasrec",
    n_negatives: int = 100,
    seed: int = 0,
    max_epochs: int = 30,
) -> FittedRecommender:
    if held_out is None:
        held_out = np.zeros(len(histories.items), dtype=bool)
    return fit_next_item(
        small_config(
            max_epochs=max_epochs,
            batch_size=8,
            patience=max_epochs,
            learning_rate=3e-2,
            weight_decay=0.01,
        ),
        KnowledgeConfig(),
        backbone,
        _inputs(histories),
        ~held_out,
        held_out,
        n_negatives=n_negatives,
        seed=seed,
    )
