"""Train and test the recommenders of a system: every backbone, seed and fold."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders import backbone_identity
from rlrf4rec.records import BoolArray, CandidateLists, Float32Array, Histories, IntArray
from rlrf4rec.stages.systems import System
from rlrf4rec.stages.text_inputs import with_practice
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage, StageWriter

if TYPE_CHECKING:
    from rlrf4rec.recommenders import FittedRecommender, ListInputs


@dataclass(frozen=True)
class Trial:
    """One system, backbone and seed over all folds: all a worker process needs.

    Attributes:
        rows: ``[n, a]``, alternatives for each list.
        practice: ``[n, m]``, texts that only training reads.
        fold: ``[n]``, the fold in which the list is tested; -1: never.
        validation: ``[n]``, lists of validation users.
        tested: ``[n]``, the lists that are scored (one draw of negatives).
        base: folder with each fold's recommender by IDs alone (`fold_name`), which this trial's
            start from; None: they are trained first.
        keep: folder to store each fold's recommender in; None: they are not kept.
    """

    backbone: str
    seed: int
    recommender: RecommenderConfig
    knowledge: KnowledgeConfig
    histories: Histories
    lists: CandidateLists
    n_items: int
    item_vectors: Float32Array | None
    user_vectors: Float32Array | None
    rows: IntArray
    practice: IntArray
    fold: IntArray
    validation: BoolArray
    tested: BoolArray
    base: Path | None = None
    keep: Path | None = None


def run_trial(trial: Trial) -> Float32Array:
    """Scores of the tested lists, ``[tested, l]``, each by a model that never saw its user."""
    inputs = trial_inputs(trial)
    column = trial.rows[:, trial.seed % trial.rows.shape[1]]
    scores = np.empty((len(trial.lists), trial.lists.items.shape[1]), dtype=np.float32)
    for fitted, test in fitted_folds(trial, inputs):
        scores[test] = fitted.score(inputs, trial.lists.select(test), column[test])
    return scores[trial.tested]


def trial_inputs(trial: Trial) -> ListInputs:
    """What the trial's recommenders read."""
    from rlrf4rec.recommenders import ListInputs

    return ListInputs.from_numpy(
        trial.histories, trial.item_vectors, trial.user_vectors, trial.n_items
    )


def fitted_folds(trial: Trial, inputs: ListInputs) -> Iterator[tuple[FittedRecommender, BoolArray]]:
    """Each fold's recommender, and the lists ``[n]`` that it is tested on."""
    import torch

    from rlrf4rec.recommenders import FittedRecommender, fit

    # One thread: the models are small, and sums are then made in one order on every machine.
    torch.set_num_threads(1)
    for fold in range(int(trial.fold.max()) + 1):
        others = trial.fold != fold
        fitted = fit(
            trial.recommender,
            trial.knowledge,
            trial.backbone,
            inputs,
            trial.lists,
            trial.rows,
            others & ~trial.validation,
            others & trial.validation,
            seed=trial.seed * 1000 + fold,
            practice_rows=trial.practice,
            base=FittedRecommender.load(trial.base / fold_name(fold)) if trial.base else None,
        )
        if trial.keep is not None:
            fitted.save(trial.keep / fold_name(fold))
        yield fitted, (trial.fold == fold) & trial.tested


def fold_name(fold: int) -> str:
    """The folder of a fold's recommender."""
    return f"fold-{fold}"


def run_system(
    world: World, system: System, kind: str, pool: Executor, base: Stage | None = None
) -> Stage:
    """All trials of a system on one kind of lists; writes ``<backbone>-<seed>.npy``.

    Without a base, the system is the base: its recommenders are kept in ``<backbone>-<seed>/``.
    """
    config = world.config
    name = f"evaluation/{kind}/{system.name}"
    on_progress = world.reporter.start(name, "trainings")
    jobs = [(backbone, seed) for backbone in config.evaluation.backbones for seed in _seeds(world)]
    trainings = world.folds.n_folds  # of a job

    def work(writer: StageWriter) -> None:
        missing = [job for job in jobs if not writer.has(_file(*job))]
        # A trial's recommenders are whole before its scores are there.
        futures = {
            pool.submit(
                run_trial,
                replace(
                    trial_of(world, system, kind, *job),
                    base=base.folder / _name(*job) if base else None,
                    keep=None if base else writer.folder / _name(*job),
                ),
            ): job
            for job in missing
        }
        kept = len(jobs) - len(missing)
        on_progress(kept * trainings, len(jobs) * trainings)
        for number, future in enumerate(as_completed(futures), kept + 1):
            scores = future.result()
            writer.write(_file(*futures[future]), partial(_save, scores))
            on_progress(number * trainings, len(jobs) * trainings)

    settings = {
        "recommender": config.recommender.model_dump(),
        "knowledge": config.knowledge.model_dump(),
        "jobs": [(backbone_identity(backbone), seed) for backbone, seed in jobs],
        "n_texts": system.n_texts,
        "seed": config.seed,
        "best_of": config.reward.metric if system.name == "best_of_n" else "",
    }
    needs = [*world.list_stages(kind), *system.needs, *([base] if base else [])]
    stage = world.workspace.stage(name, settings, needs, work, replayable=True)
    world.reporter.finish(name, stage.seconds)
    return stage


def load_scores(world: World, stage: Stage, backbone: str) -> Float32Array:
    """``[seeds, n, l]``."""
    return np.stack([np.load(stage.folder / _file(backbone, seed)) for seed in _seeds(world)])


def tested_lists(world: World, kind: str) -> BoolArray:
    """``[n]``: lists of tested users, with the first draw of negatives."""
    lists = world.lists(kind)
    tested: BoolArray = (world.folds.fold[lists.user] >= 0) & (lists.draw == 0)
    return tested


def trial_of(world: World, system: System, kind: str, backbone: str, seed: int) -> Trial:
    """A trial of the system on the world's lists of a kind."""
    config = world.config
    lists = world.lists(kind)
    rows = system.list_rows(lists)
    with_items = config.knowledge.item and system.vectors is not None
    vectors, practice = with_practice(world, system.vectors, system.reads)
    return Trial(
        backbone,
        seed,
        config.recommender,
        config.knowledge,
        world.histories,
        lists,
        world.dataset.n_items,
        world.item_vectors if with_items else None,
        vectors,
        np.full_like(rows, -1) if vectors is None else rows,
        practice[lists.user],
        world.folds.fold[lists.user],
        (world.folds.role == "validation")[lists.user],
        tested_lists(world, kind),
    )


def _seeds(world: World) -> list[int]:
    return world.config.evaluation.seeds


def _name(backbone: str, seed: int) -> str:
    return f"{backbone}-{seed}"


def _file(backbone: str, seed: int) -> str:
    return f"{_name(backbone, seed)}.npy"


def _save(scores: Float32Array, path: Path) -> None:
    with path.open("wb") as handle:
        np.save(handle, scores, allow_pickle=False)
