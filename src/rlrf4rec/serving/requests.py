"""What is asked of a reranker and what it answers, as records and as JSON lines."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rlrf4rec.errors import RequestError

History = Sequence[tuple[str, float | None]]
"""Read items and their ratings (None: unrated), oldest first."""

_EXAMPLE = 'For example {"user_id": "22", "candidates": ["242", "302"]}.'
_FIELDS = ("user_id", "history", "candidates")
_LARGEST = 3.4e38


class RatingScale(NamedTuple):
    """The ratings of the log that a reranker has learned from; of one without, both are NaN."""

    lowest: float
    highest: float

    def check(self, request: RankRequest) -> None:
        """A rating on another scale would be read as love or hate.

        Raises:
            RequestError: naming the first one.
        """
        for place, (_, rating) in enumerate(request.history or ()):
            # The log's are float32, in which 0.1 is a little more than 0.1.
            if rating is not None and not self.lowest <= np.float32(rating) <= self.highest:
                unrated = math.isnan(self.lowest)
                scale = f"from {self.lowest:g} to {self.highest:g}"
                raise RequestError(
                    "no ratings, as in the log" if unrated else f"ratings {scale}, as in the log",
                    found=f"{rating:g} at place {place} of the history",
                    remedy="Leave the rating null" + ("." if unrated else ", or bring it there."),
                )


@dataclass(frozen=True)
class RankRequest:
    """One list to rank.

    Args:
        candidates: item ids, at least one, each once; kept as a list, whether they come as one, as
            an array or as a data frame's column.
        user_id: as in the log.
        history: read items, oldest first. For a known user it stands in for the stored history;
            the stored text is read all the same.

    Raises:
        RequestError: empty or repeated candidates, neither user nor history, wrong types.
    """

    candidates: Sequence[str]
    user_id: str | None = None
    history: History | None = None

    def __post_init__(self) -> None:
        if self.user_id is None and self.history is None:
            raise RequestError(
                "a user_id or a history",
                found="neither",
                remedy="Name a user of the log, or give what the user has read (it may be empty).",
            )
        if self.user_id is not None and not isinstance(self.user_id, str):
            raise _not_an_id("user_id", self.user_id)
        object.__setattr__(self, "candidates", _as_list(self.candidates))
        _check_candidates(self.candidates)
        if self.history is not None:
            _check_history(self.history)


class Ranked(NamedTuple):
    """A candidate in its place.

    Attributes:
        item_id: the log's own id.
        score: higher is better, comparable within one ranking only; None for an item that the
            reranker does not know.
        rank: 1 is first.
    """

    item_id: str
    score: float | None
    rank: int

    @property
    def known(self) -> bool:
        return self.score is not None


@dataclass(frozen=True)
class Ranking:
    """The candidates best first; unknown items come last, in the order they were given.

    Attributes:
        items: the candidates.
        known_user: whether the user is one of the run's.
        n_unknown_history: items of the request's history that were passed over as unknown.
    """

    items: tuple[Ranked, ...]
    known_user: bool
    n_unknown_history: int = 0

    def __iter__(self) -> Iterator[Ranked]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def parse_request(line: bytes, number: int, scale: RatingScale | None = None) -> RankRequest:
    """A request from a line of JSON.

    Args:
        line: UTF-8.
        number: the line's number, from 1, for errors.
        scale: what its ratings must keep to; None: not known.

    Raises:
        RequestError: naming the line.
    """
    try:
        request = _from_json(json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8")))
        if scale is not None:
            scale.check(request)
        return request
    except RequestError as error:
        raise RequestError(
            error.expected, found=f"{error.found} (line {number})", remedy=error.remedy
        ) from error
    except (ValueError, RecursionError) as error:
        raise RequestError(
            "one JSON object a line, in UTF-8",
            found=f"line {number}: {error}",
            remedy=_EXAMPLE,
        ) from error


def to_json(request: RankRequest, ranking: Ranking) -> str:
    """An answer as one line of JSON, without its line break; ASCII only."""
    return json.dumps(
        {
            "user_id": request.user_id,
            "known_user": ranking.known_user,
            "unknown_history_items": ranking.n_unknown_history,
            "ranking": [
                {"item_id": item.item_id, "score": item.score, "known": item.known}
                for item in ranking
            ],
        }
    )


def _from_json(value: object) -> RankRequest:
    if not isinstance(value, dict):
        raise RequestError("a JSON object", found=_shown(value), remedy=_EXAMPLE)
    unknown = [key for key in value if key not in _FIELDS]
    if unknown:
        raise RequestError(
            f"the fields {', '.join(_FIELDS)}", found=_shown(unknown[0]), remedy=_EXAMPLE
        )
    return RankRequest(value.get("candidates", []), value.get("user_id"), value.get("history"))


def _as_list(candidates: object) -> object:
    """A list of what holds items in an order; anything else as it is, for `_check_candidates`."""
    if isinstance(candidates, np.ndarray):
        return candidates.tolist()  # of Python's own strings, as they are shown in errors
    no_list = isinstance(candidates, (str, bytes, Mapping, Set))
    return candidates if no_list or not isinstance(candidates, Iterable) else list(candidates)


def _check_candidates(candidates: object) -> None:
    if not isinstance(candidates, list):
        raise RequestError("candidates as a list", found=_shown(candidates), remedy=_EXAMPLE)
    if not candidates:
        raise RequestError("at least one candidate", found="none", remedy=_EXAMPLE)
    seen: set[str] = set()
    for candidate in candidates:
        if not isinstance(candidate, str):
            raise _not_an_id("candidates", candidate)
        if candidate in seen:
            raise RequestError(
                "each candidate once",
                found=f"{_shown(candidate)} twice",
                remedy="Take repeated items out of the list.",
            )
        seen.add(candidate)


def _check_history(history: object) -> None:
    if not isinstance(history, (list, tuple)):
        raise RequestError(
            "a history as a list of [item_id, rating]",
            found=_shown(history),
            remedy='For example "history": [["242", 5], ["302", null]].',
        )
    for place, entry in enumerate(history):
        if not isinstance(entry, (list, tuple)) or len(entry) != 2:
            raise RequestError(
                "[item_id, rating] in the history, rating null where there is none",
                found=f"{_shown(entry)} at place {place}",
                remedy='For example "history": [["242", 5], ["302", null]].',
            )
        item, rating = entry
        if not isinstance(item, str):
            raise _not_an_id(f"history, place {place}", item)
        if rating is not None and not _is_finite_number(rating):
            raise RequestError(
                "a finite number or null as a rating",
                found=f"{_shown(rating)} at place {place} of the history",
                remedy="Leave the rating null where it is not known.",
            )


def _is_finite_number(value: object) -> bool:
    """Also as float32, which the recommender reads; numpy's numbers are numbers, too."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return abs(float(value)) <= _LARGEST
    except OverflowError:
        return False


def _not_an_id(field: str, value: object) -> RequestError:
    return RequestError(
        f"ids as strings in {field}", found=_shown(value), remedy='Write "22", not 22.'
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
