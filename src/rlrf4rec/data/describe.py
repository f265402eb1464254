"""A log in numbers, for `rlrf4rec data describe`."""

from __future__ import annotations

import numpy as np

from rlrf4rec.records import CandidateLists, Dataset, Histories

Description = dict[str, int | float | str | dict[str, int | float]]

QUANTILES = {"min": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "max": 1.0}


def describe(dataset: Dataset, histories: Histories, lists: CandidateLists) -> Description:
    """What is in the log, what its lists look like, and what was dropped.

    ``density`` is the share of user-item pairs with an interaction. ``share of positives`` is over
    all candidates of all lists.
    """
    log = dataset.interactions
    pairs = log.select("user", "item").n_unique()
    n_lists = len(lists)
    rated = log["rating"].drop_nulls()
    return {
        "name": dataset.name,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "items without interactions": dataset.n_items - log["item"].n_unique(),
        "interactions": log.height,
        "rated interactions": len(rated),
        "density": pairs / (dataset.n_users * dataset.n_items),
        "history length": {
            name: float(np.quantile(histories.lengths, quantile))
            for name, quantile in QUANTILES.items()
        },
        "kind of lists": lists.kind,
        "lists": n_lists,
        "lists without a positive": int((lists.labels.sum(axis=1) == 0).sum()),
        "share of positives": float(lists.labels.mean()) if n_lists else 0.0,
        "dropped": dict(dataset.dropped),
    }
