"""Texts that need no LLM: of items, and of reading histories."""

from __future__ import annotations

import numpy as np

from rlrf4rec.records import Dataset, Float32Array, Histories

_HISTORY_ITEMS = 12
_PRACTICE_ITEMS = (2, 6)
_USERS = 1024
"""Users whose read items' vectors are in memory at once: some 100 MB at 50 read items each."""


def item_texts(dataset: Dataset) -> list[str]:
    """An item's text: title and details, ``[i]``."""
    return [
        f"{title} ({details})" if details else title
        for title, details in dataset.items.select("title", "details").iter_rows()
    ]


def history_texts(dataset: Dataset, histories: Histories, positive_rating: float) -> list[str]:
    """The reading history's own text (system ``history_text``), ``[u]``.

    The latest liked items' texts, newest first, so that what the encoder's window cuts off is old.
    """
    texts = item_texts(dataset)
    liked = liked_items(histories, positive_rating)
    return ["; ".join(texts[item] for item in items[::-1][:_HISTORY_ITEMS]) for items in liked]


def practice_texts(
    dataset: Dataset, histories: Histories, positive_rating: float, n_texts: int, seed: int
) -> list[list[str]]:
    """Texts that only training reads: a few random liked items of the reading history.

    They teach a recommender what texts say about items, on texts that are sure to say it; the
    LLM's own texts alone are few and often wrong.

    Args:
        dataset: names the items.
        histories: ``[u, h]``.
        positive_rating: what counts as liked.
        n_texts: texts a user.
        seed: of the draws; a user's texts do not depend on the other users.

    Returns:
        ``[n_texts][u]``; empty for a user who liked nothing.
    """
    texts = item_texts(dataset)
    drawn: list[list[str]] = [[] for _ in range(n_texts)]
    for user, items in enumerate(liked_items(histories, positive_rating)):
        for number, of_draw in enumerate(drawn):
            rng = np.random.default_rng([seed, user, number])
            size = int(rng.integers(_PRACTICE_ITEMS[0], _PRACTICE_ITEMS[1] + 1))
            some = rng.permutation(len(items))[:size]
            of_draw.append("; ".join(texts[items[place]] for place in sorted(some)))
    return drawn


def profile_vectors(histories: Histories, item_vectors: Float32Array) -> Float32Array:
    """The non-LLM profile (system ``profile``): a rating-weighted mean of read items' vectors.

    Args:
        histories: ``[u, h]``.
        item_vectors: ``[i, d]``.

    Returns:
        ``[u, d]``, unit length (zero for a user who read nothing).
    """
    read = histories.items >= 0
    unrated = np.isnan(histories.ratings)
    # The rating itself, not its distance from the user's mean: what somebody chose to read says
    # more than how it was rated (SetRank on validation users: NDCG@5 0.594 against 0.578).
    weights = np.where(unrated, 1.0, histories.ratings) * read
    items = np.where(read, histories.items, 0)
    mean = np.empty((len(items), item_vectors.shape[1]), dtype=item_vectors.dtype)
    for start in range(0, len(items), _USERS):
        part = slice(start, start + _USERS)
        mean[part] = np.einsum("uh,uhd->ud", weights[part], item_vectors[items[part]])
    norm = np.linalg.norm(mean, axis=1, keepdims=True)
    unit: Float32Array = (mean / np.where(norm > 0, norm, 1.0)).astype(np.float32)
    return unit


def liked_items(histories: Histories, positive_rating: float) -> list[list[int]]:
    """Each user's liked items, oldest first; all of them in a log without ratings."""
    liked = (histories.items >= 0) & (
        np.isnan(histories.ratings) | (histories.ratings >= positive_rating)
    )
    return [items[keep].tolist() for items, keep in zip(histories.items, liked, strict=True)]
