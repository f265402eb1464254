"""Texts and vectors that need no LLM, worked out by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rlrf4rec.knowledge.texts import (
    history_texts,
    item_texts,
    liked_items,
    practice_texts,
    profile_vectors,
)
from rlrf4rec.records import Dataset, Histories

NAN = float("nan")


def _dataset(n_items: int = 4) -> Dataset:
    titles = [f"T{n}" for n in range(n_items)]
    details = ["", *[f"d{n}" for n in range(1, n_items)]]
    return Dataset(
        "toy",
        pl.DataFrame(schema={"user": pl.Int32, "item": pl.Int32}),
        pl.DataFrame(
            {"item": range(n_items), "item_id": titles, "title": titles, "details": details}
        ),
        pl.DataFrame({"user": [0], "user_id": ["u"], "profile": [""]}),
    )


def _histories(items: list[list[int]], ratings: list[list[float]]) -> Histories:
    array = np.array(items, dtype=np.int64)
    return Histories(array, np.array(ratings, dtype=np.float32), (array >= 0).sum(1))


def test_item_text_is_title_and_details() -> None:
    assert item_texts(_dataset()) == ["T0", "T1 (d1)", "T2 (d2)", "T3 (d3)"]


def test_liked_items_oldest_first() -> None:
    histories = _histories(
        [[3, 1, 2], [0, 2, -1], [-1, -1, -1]], [[5, 3, 4], [1, 2, NAN], [NAN] * 3]
    )
    assert liked_items(histories, 4.0) == [[3, 2], [], []]


def test_without_ratings_everything_read_is_liked() -> None:
    assert liked_items(_histories([[3, 1, -1]], [[NAN] * 3]), 4.0) == [[3, 1]]


def test_history_text_is_newest_first() -> None:
    histories = _histories([[3, 1, 0, 2], [1, -1, -1, -1]], [[5, 1, 4, 4], [2, NAN, NAN, NAN]])
    assert history_texts(_dataset(), histories, 4.0) == ["T2 (d2); T0; T3 (d3)", ""]


def test_history_text_keeps_the_newest() -> None:
    """Thirty liked items: the last twelve."""
    histories = _histories([list(range(30))], [[5.0] * 30])
    (text,) = history_texts(_dataset(30), histories, 4.0)
    assert text.split("; ") == [f"T{n} (d{n})" for n in range(29, 17, -1)]


class TestProfile:
    VECTORS = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)

    def test_mean_weighted_by_rating(self) -> None:
        """4 · (1, 0) + 3 · (0, 1) = (4, 3), of length 5."""
        found = profile_vectors(_histories([[0, 1]], [[4, 3]]), self.VECTORS)
        np.testing.assert_allclose(found, [[0.8, 0.6]], rtol=1e-6)

    def test_without_ratings_items_weigh_alike(self) -> None:
        """(1, 0) + (1, 0) + (0, 1) = (2, 1), of length √5."""
        found = profile_vectors(_histories([[0, 0, 1]], [[NAN] * 3]), self.VECTORS)
        np.testing.assert_allclose(found, [[2 / 5**0.5, 1 / 5**0.5]], rtol=1e-6)

    def test_padding_counts_for_nothing(self) -> None:
        """The padding's index -1 would be the last item."""
        padded = profile_vectors(_histories([[1, -1, -1]], [[2, NAN, NAN]]), self.VECTORS)
        np.testing.assert_allclose(padded, [[0, 1]], atol=1e-7)

    def test_nothing_read_is_zero(self) -> None:
        found = profile_vectors(_histories([[-1, -1]], [[NAN, NAN]]), self.VECTORS)
        assert found.tolist() == [[0, 0]]

    def test_users_are_independent(self) -> None:
        both = profile_vectors(_histories([[0, 1], [2, 2]], [[4, 3], [5, 1]]), self.VECTORS)
        np.testing.assert_allclose(both, np.array([[0.8, 0.6], [-1.0, 0.0]]), rtol=1e-6)
        assert both.dtype == np.float32
        assert np.linalg.norm(both, axis=1) == pytest.approx([1, 1])


class TestPracticeTexts:
    HISTORIES = _histories(
        [[0, 1, 2, 3, -1], [3, 1, -1, -1, -1], [2, -1, -1, -1, -1]],
        [[5, 4, 1, 4, NAN], [NAN, NAN, NAN, NAN, NAN], [2, NAN, NAN, NAN, NAN]],
    )

    def test_only_liked_items_in_the_order_they_were_read(self) -> None:
        liked = [["T0", "T1 (d1)", "T3 (d3)"], ["T3 (d3)", "T1 (d1)"], []]
        for of_draw in practice_texts(_dataset(), self.HISTORIES, 4.0, 20, seed=0):
            for text, allowed in zip(of_draw, liked, strict=True):
                named = text.split("; ") if text else []
                assert named == [item for item in allowed if item in named]
                assert len(named) >= min(2, len(allowed))

    def test_draws_differ_and_repeat_themselves(self) -> None:
        drawn = practice_texts(_dataset(), self.HISTORIES, 4.0, 60, seed=0)
        assert len({texts[0] for texts in drawn}) > 2
        assert practice_texts(_dataset(), self.HISTORIES, 4.0, 60, seed=0) == drawn
        assert practice_texts(_dataset(), self.HISTORIES, 4.0, 5, seed=0) == drawn[:5]

    def test_none_wanted(self) -> None:
        assert practice_texts(_dataset(), self.HISTORIES, 4.0, 0, seed=0) == []
