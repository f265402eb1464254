"""The numbers of a small log, counted by hand."""

from __future__ import annotations

import dataclasses

from rlrf4rec.config import parse_config
from rlrf4rec.data import candidate_lists, describe, reading_histories


def test_describe_by_hand(make_dataset) -> None:
    """Two users, 8 interactions, 12 items of which 7 are touched.

    Each user reads 2 and has one chunk of 2: a's has one positive, b's none. b touches item 7
    twice, so there are 7 pairs among 2 * 12.
    """
    data = make_dataset(
        {
            "a": [(0, 5.0), (1, 5.0), (2, 5.0), (3, 1.0)],
            "b": [(7, None), (7, 5.0), (8, 1.0), (9, 2.0)],
        },
        12,
    )
    data = dataclasses.replace(data, dropped={"duplicate row": 3})
    config = parse_config({"lists": {"list_size": 4, "chunk_size": 2}})
    lists = candidate_lists(data, config, "uniform", 1, 0)
    assert describe(data, reading_histories(data, config.lists), lists) == {
        "name": "toy",
        "users": 2,
        "items": 12,
        "items without interactions": 5,
        "interactions": 8,
        "rated interactions": 7,
        "density": 7 / 24,
        "history length": {"min": 2.0, "25 %": 2.0, "median": 2.0, "75 %": 2.0, "max": 2.0},
        "kind of lists": "uniform",
        "lists": 2,
        "lists without a positive": 1,
        "share of positives": 1 / 8,
        "dropped": {"duplicate row": 3},
    }
