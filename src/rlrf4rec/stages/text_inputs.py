"""Texts as recommenders read them: encoded, averaged, and beside them the practice texts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from rlrf4rec.knowledge.texts import history_texts
from rlrf4rec.recommenders import ListInputs
from rlrf4rec.records import PADDING, Float32Array, Histories, IntArray
from rlrf4rec.stages.world import World


def encode_texts(
    world: World, texts: pl.DataFrame, *, join_history: bool | None = None
) -> Float32Array:
    """Vectors of sampled texts as they are read (`read_texts`), ``[len(texts), d]``."""
    return world.encoder.encode(read_texts(world, texts, join_history=join_history))


def read_texts(
    world: World,
    texts: pl.DataFrame,
    *,
    join_history: bool | None = None,
    histories: Histories | None = None,
) -> list[str]:
    """Sampled texts as recommenders read them, in the frame's order.

    The items that they name are linked to the catalogue first (`knowledge.link_items`). With
    `join_history` (None: as `knowledge.join_history` says) the text of the ``histories`` (None: the
    reading histories) goes before the LLM's.
    """
    answers = linked_texts(world, texts)
    if world.config.knowledge.join_history if join_history is None else join_history:
        joined = world.histories if histories is None else histories
        read = history_texts(world.dataset, joined, world.config.data.positive_rating)
        answers = [
            f"{read[user]}\n{answer}" for user, answer in zip(texts["user"], answers, strict=True)
        ]
    return answers


def linked_texts(world: World, texts: pl.DataFrame) -> list[str]:
    """Texts with the items that they name linked to their users' histories and the catalogue."""
    return [
        world.linker.link(text, world.histories.read_by(user)[0].tolist())
        for user, text in texts.select("user", "text").iter_rows()
    ]


def text_rows(n_users: int, texts: pl.DataFrame) -> IntArray:
    """Where each user's texts are in the frame: ``[u, s]`` row numbers, -1 where there is none.

    An empty answer is no knowledge: it has no row, and so no reward.
    """
    width = int(texts["sample"].max() or 0) + 1  # type: ignore[arg-type]  # an Int32 column
    rows = np.full((n_users, width), -1)
    said = texts["text"].str.strip_chars().str.len_chars().to_numpy() > 0
    places = np.flatnonzero(said)
    rows[texts["user"].to_numpy()[places], texts["sample"].to_numpy()[places]] = places
    return rows


def user_vectors(
    world: World,
    texts: pl.DataFrame,
    *,
    join_history: bool | None = None,
    histories: Histories | None = None,
) -> tuple[Float32Array, IntArray]:
    """Each user's texts as one vector: `mean_vectors` of texts as they are read (`read_texts`).

    Joined to the history's text, an empty answer still has that to say.
    """
    read = read_texts(world, texts, join_history=join_history, histories=histories)
    said = texts.with_columns(text=pl.Series(read, dtype=pl.String))
    return mean_vectors(world.encoder.encode(read), text_rows(world.dataset.n_users, said))


def mean_vectors(vectors: Float32Array, rows: IntArray) -> tuple[Float32Array, IntArray]:
    """One vector a user: the mean of the vectors of his texts.

    Each sampled text is right in part and wrong in part, and texts are wrong in different ways; the
    mean keeps what they agree on (docs/concepts/evidence.md, lab book, 11).

    Args:
        vectors: ``[r, d]``.
        rows: ``[u, s]``, each user's rows of `vectors`; -1: none.

    Returns:
        ``[u, d]``, zero for a user without texts, and the users' rows of it, ``[u, 1]``.
    """
    there = rows >= 0
    total = np.zeros((len(rows), vectors.shape[1]), dtype=vectors.dtype)
    for column in range(rows.shape[1]):
        # One text of everybody after another: together they would be in memory twice.
        total[there[:, column]] += vectors[rows[there[:, column], column]]
    means = (total / np.maximum(there.sum(axis=1), 1)[:, None]).astype(np.float32)
    users = np.where(there.any(axis=1), np.arange(len(rows)), PADDING)
    return means, users[:, None]


class TextInputs(NamedTuple):
    """What a recommender reads.

    Attributes:
        inputs: histories and vectors.
        rows: each user's texts among the vectors, ``[u, s]``; -1: none.
        practice: texts that only training reads, likewise, ``[u, m]``.
    """

    inputs: ListInputs
    rows: IntArray
    practice: IntArray


def sampled_inputs(world: World, texts: pl.DataFrame) -> TextInputs:
    """Inputs with every sampled text by itself."""
    return text_inputs(world, encode_texts(world, texts), text_rows(world.dataset.n_users, texts))


def text_inputs(world: World, vectors: Float32Array, rows: IntArray) -> TextInputs:
    """Inputs with user vectors ``[r, d]`` and each user's rows among them, ``[u, s]``.

    Without user knowledge no text is heard: nobody has a row.
    """
    knowledge = world.config.knowledge
    heard, practice = with_practice(world, vectors)
    inputs = ListInputs.from_numpy(
        world.histories,
        world.item_vectors if knowledge.item else None,
        heard,
        world.dataset.n_items,
    )
    return TextInputs(inputs, rows if knowledge.user else np.full_like(rows, -1), practice)


def with_practice(
    world: World, vectors: Float32Array | None, reads: IntArray | None = None
) -> tuple[Float32Array | None, IntArray]:
    """Text vectors with the practice texts' after them, and each user's practice rows, ``[u, m]``.

    Args:
        world: the run.
        vectors: ``[r, d]``; None for a system without text.
        reads: ``[u]``, whose texts each user reads; None: everybody his own.

    Returns:
        None and no rows where no user text is heard.
    """
    if vectors is None or not world.config.knowledge.user:
        return None, np.empty((world.dataset.n_users, 0), dtype=np.int64)
    practice = world.practice
    rows = practice.rows if reads is None else practice.rows[reads]
    rows = np.where(rows < 0, rows, rows + len(vectors))
    return np.concatenate([vectors, practice.vectors]), rows
