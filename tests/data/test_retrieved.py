"""What a first stage learns from and retrieves, and the lists made of it: worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rlrf4rec.config import Config, parse_config
from rlrf4rec.data import candidate_lists, reading_histories
from rlrf4rec.data.retrieved import Retrieved, retrieve
from rlrf4rec.data.sequences import training_sequences
from rlrf4rec.errors import ConfigError
from rlrf4rec.records import PADDING, CandidateLists, Dataset

# User a, 7 items: reads ceil(7/2) = 4 of them; feedback 4, 5, 6. User b reads 7, 8; feedback
# 0, 9.
LOGS = {
    "a": [(0, 5.0), (1, 1.0), (2, 3.0), (3, 4.0), (4, 4.0), (5, 3.0), (6, 5.0)],
    "b": [(7, 2.0), (8, 5.0), (0, 1.0), (9, 2.0)],
}
N_ITEMS = 12


def config(**first_stage: object) -> Config:
    return parse_config(
        {
            "lists": {"kind": "first_stage", "list_size": 3, "chunk_size": 1, "min_history": 1},
            "first_stage": {"pool_size": 3, **first_stage},
        }
    )


def a_scores() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """a's ranking: 4, 11, 10, 5, 9, 8, 7, then 6; what a has read stands on top of all."""
    scores = np.zeros((1, N_ITEMS), dtype=np.float32)
    order = [0, 1, 2, 3, 4, 11, 10, 5, 9, 8, 7, 6]
    scores[0, order] = np.arange(N_ITEMS, 0, -1)
    return scores


def a_retrieved(pool_size: int = 3) -> Retrieved:
    """The pool is 11, 10, 9. Before a's 4 stands none of them, before 5 two, before 6 all five."""
    touched = np.zeros((1, N_ITEMS), dtype=bool)
    touched[0, :7] = True
    feedback = np.zeros_like(touched)
    feedback[0, 4:7] = True
    frame = retrieve(a_scores(), touched, np.array([0]), feedback, pool_size)
    return Retrieved.from_frame(frame.reverse(), N_ITEMS, pool_size)


def a_lists(make_dataset, settings: Config, draws: int = 1) -> CandidateLists:
    data: Dataset = make_dataset({"a": LOGS["a"]}, N_ITEMS)
    return candidate_lists(data, settings, "first_stage", draws, 0, a_retrieved())


def test_what_is_retrieved_by_hand() -> None:
    found = a_retrieved()
    assert found.key.tolist() == [4, 5, 6, 9, 10, 11]
    assert found.rank.tolist() == [0, 2, 5, 2, 1, 0]
    assert np.flatnonzero(found.pool(0)).tolist() == [9, 10, 11]
    assert found.found(0, np.array([6, 4, 5])).tolist() == [False, True, True]
    assert found.scores(np.array([0]), np.array([[11, 4]])).tolist() == [[7, 8]]


def test_users_do_not_mix() -> None:
    scores = np.tile(np.arange(4, dtype=np.float32), (2, 1))
    touched = np.array([[0, 0, 0, 1], [1, 0, 0, 0]], dtype=bool)
    frame = retrieve(scores, touched, np.array([3, 5]), touched, 1)
    found = Retrieved.from_frame(frame, 4, 1)
    assert np.flatnonzero(found.pool(3)).tolist() == [2]
    assert np.flatnonzero(found.pool(5)).tolist() == [3]
    assert found.pool(4).sum() == 0
    assert found.found(3, np.array([3])).tolist() == [True]
    assert found.found(5, np.array([0])).tolist() == [False]


def test_a_missed_item_is_in_no_list(make_dataset) -> None:
    """Chunks 4 (liked), 5 (not liked) and 6 (liked, missed): the third list has no positive."""
    lists = a_lists(make_dataset, config(), draws=5)
    assert lists.chunk.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    for row in range(len(lists)):
        labels = dict(zip(lists.items[row].tolist(), lists.labels[row].tolist(), strict=True))
        own = {0: {4: 1}, 1: {5: 0}, 2: {}}[int(lists.chunk[row])]
        assert {item: labels.pop(item) for item in own} == own
        assert set(labels) <= {9, 10, 11}
        assert set(labels.values()) == {0}
    # Every item of the pool is drawn, not its top alone.
    assert set(lists.items[:5].ravel().tolist()) == {4, 9, 10, 11}


def test_missed_items_are_kept_on_demand(make_dataset) -> None:
    lists = a_lists(make_dataset, config(keep_missed=True))
    assert lists.labels.sum(axis=1).tolist() == [1, 0, 1]
    assert 6 in lists.items[2]


def test_lists_keep_the_first_stages_scores(make_dataset) -> None:
    lists = a_lists(make_dataset, config(keep_missed=True))
    assert lists.first_stage is not None
    np.testing.assert_array_equal(lists.first_stage, a_scores()[0][lists.items])


def test_lists_come_back_as_they_were_stored(make_dataset) -> None:
    lists = a_lists(make_dataset, config())
    again = CandidateLists.from_frame(lists.to_frame())
    assert again.first_stage is not None and lists.first_stage is not None
    np.testing.assert_array_equal(again.first_stage, lists.first_stage)
    some = again.select(np.array([2, 0]))
    assert some.first_stage is not None
    np.testing.assert_array_equal(some.first_stage, lists.first_stage[[2, 0]])
    plain = candidate_lists(make_dataset(LOGS, N_ITEMS), config(), "uniform", 1, 0)
    assert CandidateLists.from_frame(plain.to_frame()).first_stage is None


def test_kind_and_what_was_retrieved_belong_together(make_dataset) -> None:
    data = make_dataset({"a": LOGS["a"]}, N_ITEMS)
    with pytest.raises(ValueError, match="retrieved"):
        candidate_lists(data, config(), "first_stage", 1, 0)
    with pytest.raises(ValueError, match="retrieved"):
        candidate_lists(data, config(), "uniform", 1, 0, a_retrieved())


def test_a_pool_must_fill_a_list() -> None:
    with pytest.raises(ConfigError, match="pool_size must not be smaller"):
        config(pool_size=2)


def test_sequences_by_hand(make_dataset) -> None:
    """Histories of 3 items: a is cut into 0 to 3, 3 to 6 and the single 6; b is read only."""
    data = make_dataset(LOGS, N_ITEMS)
    lists = config().lists.model_copy(update={"max_reading": 3})
    histories = reading_histories(data, lists)
    sequences, owner = training_sequences(data, histories, np.array([True, False]))
    assert sequences.items.tolist() == [
        [0, 1, 2, 3],
        [3, 4, 5, 6],
        [6, PADDING, PADDING, PADDING],
        [7, 8, PADDING, PADDING],
    ]
    assert sequences.lengths.tolist() == [4, 4, 1, 2]
    assert owner.tolist() == [0, 0, 0, 1]
    np.testing.assert_array_equal(sequences.ratings[1], [4, 4, 3, 5])


def test_unknown_feedback_is_in_no_sequence(make_dataset) -> None:
    data = make_dataset(LOGS, N_ITEMS)
    histories = reading_histories(data, config().lists)
    nobody, _ = training_sequences(data, histories, np.array([False, False]))
    assert set(nobody.items.ravel().tolist()) == {0, 1, 2, 3, 7, 8, PADDING}
    b, _ = training_sequences(data, histories, np.array([False, True]))
    assert set(b.items.ravel().tolist()) == {0, 1, 2, 3, 7, 8, 9, PADDING}
