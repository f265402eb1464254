"""What a first stage may learn from: the log as sequences as long as the reading histories."""

from __future__ import annotations

import numpy as np

from rlrf4rec.data.splits import log_columns
from rlrf4rec.records import PADDING, BoolArray, Dataset, Histories, IntArray


def training_sequences(
    dataset: Dataset, histories: Histories, known: BoolArray
) -> tuple[Histories, IntArray]:
    """Whole logs of the users that may be known, and the reading histories of everyone else.

    A log is cut into sequences of ``h + 1`` items, ``h`` being the longest reading history; each
    begins with the last item of the one before. So a model that reads all but a sequence's last
    item and is asked for all but its first meets every step of the log once, and never a longer
    history than it will be given.

    Args:
        dataset: the cleaned log.
        histories: reading histories, ``[u, h]``.
        known: ``[u]``, users whose feedback may be known. No feedback of any other user is used.

    Returns:
        ``q`` sequences in the shape of histories, ``[q, h + 1]``, and whose they are, ``[q]``;
        sorted by user and time.
    """
    size = max(histories.items.shape[1], 1)
    user, item, rating, position = log_columns(dataset)
    used = known[user] | (position < histories.lengths[user])
    user, item, rating, position = user[used], item[used], rating[used], position[used]
    number, place = np.divmod(position, size)
    starts = place == 0
    # A sequence's first item is also the last of the one before.
    row = np.cumsum(starts) - 1
    again = starts & (number > 0)
    row = np.concatenate([row, row[again] - 1])
    place = np.concatenate([place, np.full(int(again.sum()), size)])
    shape = (int(starts.sum()), size + 1)
    items = np.full(shape, PADDING, dtype=np.int64)
    ratings = np.full(shape, np.nan, dtype=np.float32)
    items[row, place] = np.concatenate([item, item[again]])
    ratings[row, place] = np.concatenate([rating, rating[again]])
    return Histories(items, ratings, (items != PADDING).sum(axis=1)), user[starts]
