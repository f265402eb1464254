"""The catalogue's words, on catalogues small enough to work out."""

from __future__ import annotations

import numpy as np
import pytest

from rlrf4rec.knowledge.lexical import LexicalSpace

CATALOGUE = [
    "Alien (1979; Horror, Sci-Fi)",
    "Scream (1996; Horror, Thriller)",
    "Clueless (1995; Comedy)",
    "Manhattan (1979; Comedy, Drama)",
    "Heat (1995; Thriller, Drama)",
    "Brazil (1985; Sci-Fi)",
    "Big (1988; Comedy)",
]


@pytest.fixture(scope="module")
def space() -> LexicalSpace:
    return LexicalSpace(CATALOGUE, 6)


def test_vectors_have_unit_length_and_unknown_words_have_none(space: LexicalSpace) -> None:
    vectors = space.encode(["Genres: horror", "zebra", ""])
    assert vectors.shape == (3, 6)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0, 0], abs=1e-6)


def test_a_text_matches_the_items_that_share_its_words(space: LexicalSpace) -> None:
    match = space.encode(["this viewer enjoys horror"]) @ space.encode(CATALOGUE).T
    assert set(match[0].argsort()[-2:]) == {0, 1}


def test_a_decade_matches_its_years(space: LexicalSpace) -> None:
    """No item says "1990s" itself; 1995 and 1996 do."""
    match = space.encode(["Period: the 1990s"]) @ space.encode(CATALOGUE).T
    assert set(match[0].argsort()[-3:]) == {1, 2, 4}


def test_the_same_catalogue_gives_the_same_space(space: LexicalSpace) -> None:
    again = LexicalSpace(CATALOGUE, 6)
    np.testing.assert_array_equal(again.encode(CATALOGUE), space.encode(CATALOGUE))


def test_one_at_a_time_is_all_at_once(space: LexicalSpace) -> None:
    alone = np.concatenate([space.encode([text]) for text in CATALOGUE])
    np.testing.assert_allclose(alone, space.encode(CATALOGUE), atol=1e-6)


@pytest.mark.parametrize("catalogue", [["a b c", "d e f"], ["", ""], ["alpha beta"]])
def test_without_a_word_in_common_there_is_nothing_to_match(catalogue: list[str]) -> None:
    assert LexicalSpace(catalogue, 4).encode(["alpha", "beta"]).shape == (2, 0)


def test_a_small_catalogue_has_fewer_directions() -> None:
    space = LexicalSpace(["red car", "red bike", "blue car"], 64)
    assert space.encode(["red"]).shape == (1, 1)
