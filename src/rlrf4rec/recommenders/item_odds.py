"""Where an item's bias starts: the log-odds of being a positive, before anything is trained.

On uniform lists popularity alone ranks nearly as well as a trained ID reranker. A bias that starts
at zero has to find popularity in a few hundred steps, against weight decay, item by item; one that
starts at the odds has it from the first step, and training adds what is personal.
"""

from __future__ import annotations

import numpy as np

from rlrf4rec.records import FloatArray

STRENGTH = 5.0
"""Appearances that the share of positives over all items counts for in each item's own share."""


def item_log_odds(shown: FloatArray, positive: FloatArray) -> FloatArray:
    """Log-odds of each item being a positive of its list, ``[i]``; 0 is the odds over all items.

    ``logit((positive + a q) / (shown + a)) - logit(q)`` with ``a`` = `STRENGTH` and ``q`` the share
    of positives over all items. An item that no list holds gets 0.

    Args:
        shown: ``[i]``, training lists that hold the item.
        positive: ``[i]``, those in which it is a positive; over all items, neither none nor all.
    """
    share = positive.sum() / shown.sum()
    odds = (positive + STRENGTH * share) / (shown - positive + STRENGTH * (1 - share))
    above: FloatArray = np.log(odds * (1 - share) / share)
    return above
