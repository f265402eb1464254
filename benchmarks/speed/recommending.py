"""A reranker with texts and lists for the rows that train, score and serve one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders import ListInputs
from rlrf4rec.records import BoolArray, CandidateLists, IntArray
from speed.work import world


@dataclass(frozen=True)
class Task:
    """MovieLens-100K's `popular` lists with each user's practice texts for the LLM's.

    Attributes:
        inputs: histories and text vectors.
        lists: ``n`` lists.
        rows: ``[n, a]``, each list's user texts.
        test: ``[n]``, lists of the first recommender fold.
        validation: ``[n]``, lists of its validation users.
    """

    recommender: RecommenderConfig
    knowledge: KnowledgeConfig
    inputs: ListInputs
    lists: CandidateLists
    rows: IntArray
    test: BoolArray
    validation: BoolArray


def task() -> Task:
    """The work."""
    here = world()
    lists = here.lists()
    practice = here.practice
    inputs = ListInputs.from_numpy(
        here.histories, here.item_vectors, practice.vectors, here.dataset.n_items
    )
    return Task(
        here.config.recommender,
        here.config.knowledge,
        inputs,
        lists,
        practice.rows[lists.user],
        here.folds.fold[lists.user] == 0,
        (here.folds.role == "validation")[lists.user] & (here.folds.fold[lists.user] != 0),
    )


def first_text(rows: IntArray) -> IntArray:
    """Each list's first text, ``[n]``."""
    first: IntArray = np.ascontiguousarray(rows[:, 0])
    return first
