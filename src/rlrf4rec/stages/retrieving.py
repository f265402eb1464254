"""The first stage: a sequential recommender that retrieves the candidates of `first_stage` lists.

It is cross-fitted. Whoever retrieves for a user has learned from the reading histories of everyone,
and from the feedback of users of the same LLM half and another recommender fold alone. So a user's
feedback neither trains the first stage that retrieves for this user, nor reaches the lists of the
other half, on which the LLM that writes for this user is tuned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from rlrf4rec.config import FirstStageConfig, RecommenderConfig
from rlrf4rec.data import candidate_lists
from rlrf4rec.data.retrieved import Retrieved, retrieve
from rlrf4rec.data.sequences import training_sequences
from rlrf4rec.data.splits import log_columns
from rlrf4rec.records import BoolArray, Folds, IntArray
from rlrf4rec.stages.shards import clear_shards, read_shards
from rlrf4rec.workspace import Stage, StageWriter

if TYPE_CHECKING:
    from rlrf4rec.recommenders import FittedRecommender
    from rlrf4rec.stages.world import World

SCORES_AT_ONCE = 2_000_000
"""Scores (users times items) held at once: some 50 MB with what is made of them."""


def retrieve_candidates(world: World) -> Stage:
    """Train every first stage and keep what it retrieves: ``retrieved.parquet`` and ``models/``.

    Users of one group are a shard: a killed run loses the group in work.
    """
    config = world.config
    name = "first-stage/retrieved"
    on_progress = world.reporter.start(name, "first stages")

    def work(writer: StageWriter) -> None:
        groups = list(cross_fit(world.folds, config.folds.recommender_folds, config.seed))
        shards = [f"shard-{number}.parquet" for number in range(len(groups))]
        # Complete, if an earlier attempt was killed while it cleared its shards away.
        if not writer.has("retrieved.parquet"):
            for number, (users, known) in enumerate(groups):
                on_progress(number, len(groups))
                if not writer.has(shards[number]):
                    model = _fit(world, known, config.seed * 1000 + number)
                    model.save(writer.folder / "models" / str(number))
                    writer.write_frame(shards[number], _retrieve_for(world, model, users))
            on_progress(len(groups), len(groups))
            writer.write_frame("retrieved.parquet", read_shards(writer).sort("user", "item"))
        clear_shards(writer)

    settings = {
        "first_stage": config.first_stage.model_dump(exclude={"keep_missed"}),
        "knowledge": config.knowledge.model_dump() if config.first_stage.item_text else {},
        "folds": config.of_folds(),
        "seed": config.seed,
    }
    stage = world.workspace.stage(name, settings, [world.data], work, replayable=True)
    world.reporter.finish(name, stage.seconds)
    return stage


def retrieve_lists(world: World, first_stage: Stage) -> Stage:
    """Make the lists of kind ``first_stage``: ``lists-first_stage.parquet``."""
    config = world.config

    def work(writer: StageWriter) -> None:
        retrieved = Retrieved.from_frame(
            first_stage.frame("retrieved.parquet"),
            world.dataset.n_items,
            config.first_stage.pool_size,
        )
        lists = candidate_lists(
            world.dataset, config, "first_stage", config.lists.draws, config.seed, retrieved
        )
        writer.write_frame("lists-first_stage.parquet", lists.to_frame())

    settings = {
        "lists": config.lists.model_dump(exclude={"kind"}),
        "keep_missed": config.first_stage.keep_missed,
        "seed": config.seed,
    }
    return world.workspace.stage(
        "first-stage/lists", settings, [first_stage], work, replayable=True
    )


def cross_fit(folds: Folds, n_groups: int, seed: int) -> Iterator[tuple[BoolArray, BoolArray]]:
    """Users that one first stage retrieves for, and users whose feedback it may know.

    With protocol ``cross``, a first stage for each half and fold, which knows background users,
    too, and one for each of ``n_groups`` parts of these. With ``split``, one for the test users,
    which knows everybody else, and one for each of as many parts of those.

    Yields:
        Two masks ``[u]``; everyone is retrieved for once.
    """
    background = ~folds.written
    if folds.protocol == "cross":
        written = np.stack([folds.half, folds.fold])[:, folds.written]
        for half, fold in np.unique(written, axis=1).T:
            same_half = folds.half == half
            users = same_half & (folds.fold == fold)
            yield users, (same_half & ~users) | background
        # Either half learns from these lists: no written user's feedback may be in them.
        yield from _in_parts(background, n_groups, seed)
        return
    test = folds.role == "test"
    yield test, ~test
    yield from _in_parts(~test, n_groups, seed)


def _in_parts(users: BoolArray, n_groups: int, seed: int) -> Iterator[tuple[BoolArray, BoolArray]]:
    """Each part of the users, and the users of all other parts."""
    part: IntArray = np.full(len(users), -1)
    part[np.random.default_rng([seed, 4]).permutation(np.flatnonzero(users))] = (
        np.arange(int(users.sum())) % n_groups
    )
    for number in range(n_groups):
        if (part == number).any():
            yield part == number, (part >= 0) & (part != number)


def _fit(world: World, known: BoolArray, seed: int) -> FittedRecommender:
    from rlrf4rec.recommenders import ListInputs
    from rlrf4rec.recommenders.next_item import fit_next_item

    first_stage = world.config.first_stage
    sequences, owner = training_sequences(world.dataset, world.histories, known)
    validation = (known & (world.folds.role == "validation"))[owner]
    texts = world.item_vectors if first_stage.item_text else None
    return fit_next_item(
        _training(first_stage),
        world.config.knowledge,
        first_stage.backbone,
        ListInputs.from_numpy(sequences, texts, None, world.dataset.n_items),
        ~validation,
        validation,
        n_negatives=first_stage.n_negatives,
        seed=seed,
    )


def _training(first_stage: FirstStageConfig) -> RecommenderConfig:
    shared = set(RecommenderConfig.model_fields) & set(FirstStageConfig.model_fields)
    return RecommenderConfig(**first_stage.model_dump(include=shared), min_epochs=1)


def _retrieve_for(world: World, model: FittedRecommender, mask: BoolArray) -> pl.DataFrame:
    """What one first stage retrieves for its users, who are scored by their histories alone."""
    from rlrf4rec.recommenders import ListInputs

    n_items = world.dataset.n_items
    texts = world.item_vectors if world.config.first_stage.item_text else None
    inputs = ListInputs.from_numpy(world.histories, texts, None, n_items)
    user, item, _, position = log_columns(world.dataset)
    feedback = position >= world.histories.lengths[user]
    users = np.flatnonzero(mask)
    size = max(SCORES_AT_ONCE // n_items, 1)
    frames = []
    for start in range(0, len(users), size):
        some = users[start : start + size]
        theirs = np.isin(user, some)
        row = np.searchsorted(some, user[theirs])
        touched = np.zeros((len(some), n_items), dtype=np.bool_)
        kept = np.zeros_like(touched)
        touched[row, item[theirs]] = True
        kept[row[feedback[theirs]], item[theirs & feedback]] = True
        scores = model.score_catalogue(inputs, some)
        frames.append(retrieve(scores, touched, some, kept, world.config.first_stage.pool_size))
    return pl.concat(frames)
