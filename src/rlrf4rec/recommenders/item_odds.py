"""Where an item's bias starts: the log-odds of being a positive, before anything is trained.

On uniform lists popularity alone ranks nearly as well as a trained ID reranker. A bias that starts
at zero has to find popularity in a few hundred steps, against weight decay, item by item; one that
starts at the odds has it from the first step, and training adds what is personal.

Where most items are bought once or twice the odds say what training users bought and little of
anybody else: they rank training lists all but perfectly, text has nothing left to learn there, and
other users' lists are ranked as by chance. So each user's lists are ranked by the odds in all other
users' lists, and where that is no better than no order, the bias starts at zero (ours;
docs/concepts/evidence.md, lab book, 80).
"""

from __future__ import annotations

import numpy as np
import torch

from rlrf4rec.recommenders.list_loss import list_loss
from rlrf4rec.records import CandidateLists, FloatArray, IntArray

STRENGTH = 5.0
"""Appearances that the share of positives over all items counts for in each item's own share."""


CAUTION = 0.5
"""What the odds of other users are multiplied by, to be held against no order. Odds of few lists
are too sure of themselves. With films 0.47 of those of 182 users carries over to another user, and
0.62 of those of 679; training ranks better from all of them than from none. At a shop 0.05 does."""


def starting_odds(lists: CandidateLists, n_items: int) -> FloatArray:
    """Each item's log-odds in training lists, or zero where they foretell no other user's, ``[i]``.

    Args:
        lists: each with a positive and a negative.
        n_items: items in the catalogue, ``i``.
    """
    shown = _appearances(lists.items, n_items)
    positive = _appearances(lists.items[lists.labels > 0], n_items)
    share = positive.sum() / shown.sum()
    own_shown, own_positive = _own_appearances(lists, n_items)
    of_others = item_log_odds(
        shown[lists.items] - own_shown, positive[lists.items] - own_positive, share
    )
    if _loss(CAUTION * of_others, lists) >= _loss(0 * of_others, lists):
        return np.zeros(n_items)
    return item_log_odds(shown, positive, share)


def item_log_odds(shown: FloatArray, positive: FloatArray, share: float) -> FloatArray:
    """Log-odds of being a positive; 0 is the odds over all items, and of what was never shown.

    ``logit((positive + a q) / (shown + a)) - logit(q)`` with ``a`` = `STRENGTH`.

    Args:
        shown: ``[...]``, lists that hold the item.
        positive: ``[...]``, those in which it is a positive.
        share: ``q``, the share of positives over all items; neither 0 nor 1.
    """
    odds = (positive + STRENGTH * share) / (shown - positive + STRENGTH * (1 - share))
    above: FloatArray = np.log(odds * (1 - share) / share)
    return above


def _appearances(items: IntArray, n_items: int) -> FloatArray:
    """How often each item is among ``items [...]``, ``[i]``."""
    counts: FloatArray = np.bincount(items.reshape(-1), minlength=n_items).astype(np.float64)
    return counts


def _own_appearances(lists: CandidateLists, n_items: int) -> tuple[FloatArray, FloatArray]:
    """Of each candidate, its user's lists that hold it and those that like it, ``[n, l]`` twice."""
    pairs = lists.user[:, None] * n_items + lists.items
    _, place = np.unique(pairs.reshape(-1), return_inverse=True)
    shown: FloatArray = np.bincount(place).astype(np.float64)
    liked = np.bincount(place, weights=lists.labels.reshape(-1))
    positive: FloatArray = liked.astype(np.float64)
    return shown[place].reshape(pairs.shape), positive[place].reshape(pairs.shape)


def _loss(scores: FloatArray, lists: CandidateLists) -> float:
    return float(list_loss(torch.from_numpy(scores), torch.from_numpy(lists.labels)))
