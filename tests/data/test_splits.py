"""Reading histories and candidate lists: a small log by hand, then what must always hold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrf4rec.config import Config, parse_config
from rlrf4rec.data import candidate_lists, latest_histories, popularity, reading_histories
from rlrf4rec.data.splits import _Negatives, _Supply
from rlrf4rec.errors import DataError
from rlrf4rec.records import PADDING, CandidateLists, Dataset, FloatArray, IntArray


def config(**lists: object) -> Config:
    return parse_config({"lists": {"list_size": 4, "chunk_size": 2, "min_history": 1, **lists}})


# User a, 7 items: reads ceil(7/2) = 4; feedback 4, 5, 6. User b, 4 items: reads 2; feedback 0, 9.
LOGS = {
    "a": [(0, 5.0), (1, 1.0), (2, 3.0), (3, 4.0), (4, 4.0), (5, 3.0), (6, 5.0)],
    "b": [(7, 2.0), (8, 5.0), (0, 1.0), (9, 2.0)],
}


def test_reading_histories_by_hand(make_dataset) -> None:
    histories = reading_histories(make_dataset(LOGS, 12), config().lists)
    assert histories.lengths.tolist() == [4, 2]
    assert histories.items.tolist() == [[0, 1, 2, 3], [7, 8, PADDING, PADDING]]
    np.testing.assert_array_equal(histories.ratings, [[5, 1, 3, 4], [2, 5, np.nan, np.nan]])


def test_latest_histories_by_hand(make_dataset) -> None:
    histories = latest_histories(make_dataset(LOGS, 12), 5)
    assert histories.lengths.tolist() == [5, 4]
    assert histories.items.tolist() == [[2, 3, 4, 5, 6], [7, 8, 0, 9, PADDING]]
    np.testing.assert_array_equal(histories.ratings, [[3, 4, 4, 3, 5], [2, 5, 1, 2, np.nan]])
    assert latest_histories(make_dataset(LOGS, 12), 1).items.tolist() == [[6], [9]]


def test_max_reading_moves_the_rest_to_feedback(make_dataset) -> None:
    """With max_reading 1, a reads 0; feedback 1 to 6 makes three chunks, b's three items one."""
    settings_ = config(max_reading=1)
    data = make_dataset(LOGS, 12)
    assert reading_histories(data, settings_.lists).items.tolist() == [[0], [7]]
    lists = candidate_lists(data, settings_, "uniform", 1, 0)
    assert list(zip(lists.user.tolist(), lists.chunk.tolist(), strict=True)) == [
        (0, 0), (0, 1), (0, 2), (1, 0),
    ]  # fmt: skip


def test_candidate_lists_by_hand(make_dataset) -> None:
    """a's only full chunk is 4 (rated 4, positive) and 5 (rated 3); 7 to 11 can be negatives.

    b's chunk is 0 and 9, both rated low: a list without a positive, which stays. Item 6 is a's
    last, incomplete chunk: in no list as a positive, nor as a's negative.
    """
    lists = candidate_lists(make_dataset(LOGS, 12), config(), "uniform", 3, 0)
    assert lists.user.tolist() == [0, 0, 0, 1, 1, 1]
    assert lists.draw.tolist() == [0, 1, 2, 0, 1, 2]
    assert lists.chunk.tolist() == [0] * 6
    for row in range(3):
        labels = dict(zip(lists.items[row].tolist(), lists.labels[row].tolist(), strict=True))
        assert labels.pop(4) == 1
        assert labels.pop(5) == 0
        assert set(labels) <= {7, 8, 9, 10, 11}
        assert set(labels.values()) == {0}
    assert lists.labels[3:].sum() == 0
    assert all({0, 9} <= set(row) for row in lists.items[3:].tolist())


def test_partial_chunk_is_filled_with_negatives(make_dataset) -> None:
    lists = candidate_lists(make_dataset(LOGS, 12), config(partial_chunk=True), "uniform", 1, 0)
    assert lists.user.tolist() == [0, 0, 1]
    assert lists.chunk.tolist() == [0, 1, 0]
    row = dict(zip(lists.items[1].tolist(), lists.labels[1].tolist(), strict=True))
    assert row.pop(6) == 1
    assert len(row) == 3
    assert set(row) <= {7, 8, 9, 10, 11}


def test_every_row_is_a_positive_without_ratings(make_dataset) -> None:
    unrated = {name: [(item, None) for item, _ in log] for name, log in LOGS.items()}
    lists = candidate_lists(make_dataset(unrated, 12), config(), "uniform", 1, 0)
    assert lists.labels.sum(axis=1).tolist() == [2, 2]


def test_item_twice_in_a_chunk_stands_once(make_dataset) -> None:
    """Item 2 is rated 1, then 5: one candidate, positive, and one more negative."""
    data = make_dataset({"a": [(0, 5.0), (1, 5.0), (2, 1.0), (2, 5.0)]}, 8)
    lists = candidate_lists(data, config(), "uniform", 1, 0)
    assert len(set(lists.items[0].tolist())) == 4
    assert lists.items[0][lists.labels[0] == 1].tolist() == [2]


def test_positive_rating_is_compared_as_the_log_stores_it(make_dataset) -> None:
    """4.1 as f32 is 4.0999999; it must still reach a threshold of 4.1."""
    data = make_dataset({"a": [(0, 1.0), (1, 1.0), (2, 4.1), (3, 4.0)]}, 8)
    settings_ = parse_config(
        {"data": {"positive_rating": 4.1}, "lists": {"list_size": 4, "chunk_size": 2}}
    )
    lists = candidate_lists(data, settings_, "uniform", 1, 0)
    assert lists.items[0][lists.labels[0] == 1].tolist() == [2]


def test_too_small_catalogue_names_the_user(make_dataset) -> None:
    with pytest.raises(DataError, match=r"at least 2 items that user 'a'.*found 1 of 8"):
        candidate_lists(make_dataset(LOGS, 8), config(), "uniform", 1, 0)
    # For popular negatives, items that nobody touched do not count: 7, 8 and 9 are left.
    candidate_lists(make_dataset(LOGS, 50), config(list_size=5), "popular", 1, 0)
    with pytest.raises(DataError, match=r"at least 4 items .* in the log; found 3 of 50"):
        candidate_lists(make_dataset(LOGS, 50), config(list_size=6), "popular", 1, 0)


def many_readers(make_dataset) -> Dataset:
    """User a, whose negatives are watched, and 14 readers that make item 10 popular.

    Items 10, 11, 12, 13 have 8, 4, 2 and 1 interactions.
    """
    counts = {10: 8, 11: 4, 12: 2, 13: 1}
    readers = {f"r{i}_{n}": [(i, 5.0)] for i, count in counts.items() for n in range(count)}
    return make_dataset({"a": [(0, 5.0), (1, 5.0), (2, 5.0)], **readers}, 30)


@pytest.mark.parametrize(("kind", "expected"), [("popular", 8 / 15), ("uniform", 1 / 27)])
def test_first_negative_follows_the_weights(make_dataset, kind, expected: float) -> None:
    """One negative a list: its share is its weight's share (4,000 draws, ±4 standard errors)."""
    settings_ = config(list_size=2, chunk_size=1)
    lists = candidate_lists(many_readers(make_dataset), settings_, kind, 4000, 0)
    share = (lists.items == 10).sum() / 4000
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)
    if kind == "popular":
        assert set(np.unique(lists.items).tolist()) == {2, 10, 11, 12, 13}


def test_two_negatives_follow_successive_draws(make_dataset) -> None:
    """P(10 and 11) = 8/15 * 4/7 + 4/15 * 8/11 = 0.4987, drawing without replacement."""
    settings_ = config(list_size=3, chunk_size=1)
    lists = candidate_lists(many_readers(make_dataset), settings_, "popular", 4000, 0)
    both = np.mean([{10, 11} <= set(row) for row in lists.items.tolist()])
    expected = 8 / 15 * 4 / 7 + 4 / 15 * 8 / 11
    assert abs(both - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)


def test_heavy_item_does_not_starve_a_list(make_dataset) -> None:
    """All four items left must be drawn, though one holds nearly all the weight."""
    readers = {f"r{n}": [(10, 5.0)] for n in range(5000)}
    logs = {"a": [(0, 5.0), (1, 5.0)], "b": [(11, 5.0)], "c": [(12, 5.0)], "d": [(13, 5.0)]}
    data = make_dataset({**logs, **readers}, 20)
    lists = candidate_lists(data, config(list_size=5, chunk_size=1), "popular", 20, 0)
    assert {tuple(sorted(row)) for row in lists.items.tolist()} == {(1, 10, 11, 12, 13)}


def test_positives_stand_anywhere(make_dataset) -> None:
    settings_ = config(chunk_size=1)
    lists = candidate_lists(many_readers(make_dataset), settings_, "uniform", 2000, 0)
    places = lists.labels.mean(axis=0)
    assert np.all(np.abs(places - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000))


def same(first: CandidateLists, second: CandidateLists) -> bool:
    return first.to_frame().drop("user").equals(second.to_frame().drop("user"))


def test_a_users_lists_do_not_depend_on_others(make_dataset) -> None:
    """b alone is user 0; beside a she is user 1: the same lists."""
    data = make_dataset(LOGS, 12)
    alone = make_dataset({"b": LOGS["b"]}, 12)
    beside = candidate_lists(data, config(), "uniform", 3, 0)
    assert same(beside.select(beside.user == 1), candidate_lists(alone, config(), "uniform", 3, 0))


def test_seed_and_draw_change_the_lists(make_dataset) -> None:
    data = make_dataset(LOGS, 1000)
    first = candidate_lists(data, config(), "uniform", 2, 0)
    assert same(first, candidate_lists(data, config(), "uniform", 2, 0))
    # More draws leave the earlier ones as they are.
    more = candidate_lists(data, config(), "uniform", 3, 0)
    assert same(first, more.select(more.draw < 2))
    assert set(first.items[0].tolist()) != set(first.items[1].tolist())
    assert not same(first, candidate_lists(data, config(), "uniform", 2, 1))


def test_popularity_leaves_test_feedback_out(make_dataset) -> None:
    """Item 0 is read by a and in b's feedback; 7 is read by b; 4 is a's feedback."""
    data = make_dataset(LOGS, 12)
    histories = reading_histories(data, config().lists)
    only_b = np.array([False, True])
    assert popularity(data, only_b).tolist() == [1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0]
    assert popularity(data, only_b, histories).tolist() == [2, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0]
    nobody = popularity(data, np.array([False, False]), histories)
    assert nobody.tolist() == [1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0]


logs_strategy = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.lists(
        st.tuples(st.integers(0, 14), st.none() | st.sampled_from([1.0, 3.0, 4.0, 5.0])),
        min_size=1,
        max_size=15,
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(
    logs=logs_strategy,
    chunk_size=st.integers(1, 4),
    max_reading=st.integers(1, 6),
    partial=st.booleans(),
    kind=st.sampled_from(["uniform", "popular"]),
    seed=st.integers(0, 2**32),
)
def test_nothing_leaks(logs, chunk_size, max_reading, partial, kind, seed) -> None:
    """No feedback reaches a history, and no negative was ever touched by its user."""
    # One reader of each item gives every item some popularity, so that lists can be filled.
    n_items = 40
    everyone = [*logs.values(), *([(item, 5.0)] for item in range(n_items))]
    rows = [
        (user, item, rating, position)
        for user, log in enumerate(everyone)
        for position, (item, rating) in enumerate(log)
    ]
    schema = {"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "position": pl.Int32}
    names = [*logs, *(f"reader of {item}" for item in range(n_items))]
    data = Dataset(
        "toy",
        pl.DataFrame(rows, schema=schema, orient="row"),
        pl.DataFrame({"item": range(n_items), "item_id": [str(n) for n in range(n_items)]}),
        pl.DataFrame({"user": range(len(names)), "user_id": names}),
    )
    settings_ = config(
        list_size=6, chunk_size=chunk_size, max_reading=max_reading, partial_chunk=partial
    )
    histories = reading_histories(data, settings_.lists)
    lists = candidate_lists(data, settings_, kind, 2, seed)

    for number, log_rows in enumerate(logs.values()):
        items = [item for item, _ in log_rows]
        length = int(histories.lengths[number])
        assert length == min(-(-len(items) // 2), max_reading)
        assert histories.items[number, :length].tolist() == items[:length]
        assert (histories.items[number, length:] == PADDING).all()
        feedback = items[length:]
        of_user = lists.select(lists.user == number)
        n_chunks = len(feedback) / chunk_size
        assert len(of_user) == 2 * int(np.ceil(n_chunks) if partial else np.floor(n_chunks))
        for row in range(len(of_user)):
            start = int(of_user.chunk[row]) * chunk_size
            chunk = set(feedback[start : start + chunk_size])
            candidates = of_user.items[row].tolist()
            assert len(set(candidates)) == 6
            assert chunk <= set(candidates)
            assert not (set(candidates) - chunk) & set(items)
            positives = {c for c, y in zip(candidates, of_user.labels[row], strict=True) if y}
            assert positives <= chunk


@pytest.mark.parametrize("n_items", [6, 40, 1000])
def test_negatives_are_those_of_a_pass_over_the_catalogue(n_items: int) -> None:
    """The same numbers drawn, looked up among the items left instead of around those gone."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        weights = rng.integers(0, 1 + 10 ** rng.integers(1, 6), n_items).astype(np.float64)
        touched = rng.integers(0, n_items, rng.integers(0, n_items // 2))
        negatives = _Negatives(_Supply(weights), touched)
        left = weights.copy()
        left[touched] = 0
        items = np.flatnonzero(left)
        assert len(negatives) == len(items)
        count = min(len(items), int(rng.integers(0, 8)))
        found = negatives.draw(np.random.default_rng([seed]), count)
        assert found.tolist() == drawn_among(
            items, left[items], np.random.default_rng([seed]), count
        )


def drawn_among(
    items: IntArray, weights: FloatArray, rng: np.random.Generator, count: int
) -> list[int]:
    if not count:
        return []
    sums = np.cumsum(weights)
    places = np.searchsorted(sums, rng.random(4 * count) * sums[-1], side="right")
    chosen = list(dict.fromkeys(np.minimum(places, len(items) - 1).tolist()))[:count]
    if missing := count - len(chosen):
        arrival = rng.exponential(size=len(items)) / weights
        arrival[chosen] = np.inf
        chosen += np.argsort(arrival, kind="stable")[:missing].tolist()
    return items[chosen].tolist()
