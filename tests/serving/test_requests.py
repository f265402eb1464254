"""Requests: what is accepted, and what the errors say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest

from rlrf4rec.errors import RequestError
from rlrf4rec.serving.requests import (
    Ranked,
    Ranking,
    RankRequest,
    RatingScale,
    parse_request,
    to_json,
)


def test_a_line_becomes_a_request() -> None:
    line = b'{"history": [["i1", 5], ["i2", null]], "candidates": ["i3", "i4"]}\n'
    assert parse_request(line, 1) == RankRequest(
        ["i3", "i4"],
        history=[["i1", 5], ["i2", None]],  # type: ignore[list-item]
    )


@pytest.mark.parametrize("kind", [tuple, np.array, pl.Series, iter])
def test_candidates_come_as_a_list_an_array_or_a_column(
    kind: Callable[[list[str]], Sequence[str]],
) -> None:
    assert RankRequest(kind(["i3", "i4"]), "u1") == RankRequest(["i3", "i4"], "u1")
    with pytest.raises(RequestError, match="'i3' twice"):
        RankRequest(kind(["i3", "i3"]), "u1")


def test_the_scales_own_ends_are_on_it() -> None:
    """As float32 stores them, 0.1 is above 0.1 and 0.7 below 0.7."""
    ends = [float(np.float32(end)) for end in (0.1, 0.7)]
    RatingScale(*ends).check(RankRequest(["i1"], history=[("i2", 0.1), ("i3", 0.7), ("i4", None)]))


def test_what_has_no_order_is_no_candidate_list() -> None:
    for candidates in ({"i3", "i4"}, {"i3": 1}, "i3", b"i3", 7):
        with pytest.raises(RequestError, match="candidates as a list"):
            RankRequest(candidates, "u1")  # type: ignore[arg-type]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert parse_request(b'\xef\xbb\xbf{"user_id": "u1", "candidates": ["i1"]}', 1).user_id == "u1"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"{", "Expecting property name"),
        (b"[1]", "[1]"),
        (b"\xff{}", "utf-8"),
        (b"[" * 100_000, "recursion"),
        (b'{"user_id": "u1", "candidates": []}', "none"),
        (b'{"user_id": "u1"}', "none"),
        (b'{"user_id": "u1", "candidates": "i1"}', "'i1'"),
        (b'{"user_id": "u1", "candidates": [7]}', "7"),
        (b'{"user_id": 7, "candidates": ["i1"]}', "7"),
        (b'{"user_id": "u1", "candidates": ["i1", "i2", "i1"]}', "'i1' twice"),
        (b'{"candidates": ["i1"]}', "neither"),
        (b'{"user": "u1", "candidates": ["i1"]}', "'user'"),
        (b'{"history": "i1", "candidates": ["i1"]}', "'i1'"),
        (b'{"history": ["i1"], "candidates": ["i1"]}', "'i1' at place 0"),
        (b'{"history": [["i1", NaN]], "candidates": ["i1"]}', "nan at place 0"),
        # Finite in 64 bits, not in the recommender's 32.
        (b'{"history": [["i1", 1e39]], "candidates": ["i1"]}', "1e+39 at place 0"),
        (b'{"history": [["i1", true]], "candidates": ["i1"]}', "True at place 0"),
        (b'{"history": [["i1", 1' + b"0" * 400 + b']], "candidates": ["i1"]}', "at place 0"),
        (b'{"history": [[7, 5]], "candidates": ["i1"]}', "7"),
    ],
)
def test_a_bad_line_is_named_with_what_was_found(line: bytes, found: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(line, 12)
    assert found in caught.value.found
    assert "line 12" in caught.value.found
    assert caught.value.remedy


def test_an_answer_is_one_ascii_line() -> None:
    request = RankRequest(["\u202ei1", "new"], user_id="Zo\u00eb")
    ranking = Ranking((Ranked("\u202ei1", 0.5, 1), Ranked("new", None, 2)), known_user=True)
    line = to_json(request, ranking)
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == {
        "user_id": "Zo\u00eb",
        "known_user": True,
        "unknown_history_items": 0,
        "ranking": [
            {"item_id": "\u202ei1", "score": 0.5, "known": True},
            {"item_id": "new", "score": None, "known": False},
        ],
    }
