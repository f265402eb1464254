"""Step 3: the knowledge-augmented recommender is the reward model.

A text's reward is how well the recommender ranks the user's own logged feedback when it is given
this text, averaged over the user's candidate lists. Rewards are *cross-fitted*: a training user's
texts are scored by a recommender that was not trained on this user, since one that has memorised
the user's lists rewards noise (ours; docs/concepts/method.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.special import log_softmax

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig, RewardConfig
from rlrf4rec.errors import WorkspaceError
from rlrf4rec.evaluation.metrics import ndcg
from rlrf4rec.records import BoolArray, CandidateLists, Float32Array, FloatArray, IntArray
from rlrf4rec.workers import one_thread, worker_count, worker_pool

if TYPE_CHECKING:
    from rlrf4rec.recommenders import FittedRecommender, ListInputs

    Job = partial[FittedRecommender]


@dataclass(frozen=True)
class RewardModels:
    """Cross-fitted recommenders.

    Attributes:
        models: ``[folds][seeds]``.
        fold: ``[u]``, the fold whose models were not trained on the user; -1 for users that no
            model was trained on, who are scored by all of them.
    """

    models: list[list[FittedRecommender]]
    fold: IntArray

    @classmethod
    def load(cls, folder: Path) -> RewardModels:
        """Read what `fit_reward_models` left in a folder.

        Raises:
            WorkspaceError: a fold's models are missing, without which its users have no reward.
        """
        from rlrf4rec.recommenders import FittedRecommender

        fold = pl.read_parquet(folder / "folds.parquet")["fold"].to_numpy().astype(np.int64)
        models: list[list[FittedRecommender]] = []
        while paths := sorted(folder.glob(f"fold-{len(models)}-seed-*")):
            models.append([FittedRecommender.load(path) for path in paths])
        if len(models) <= fold.max():
            raise WorkspaceError(
                f"the reward models of folds 0 to {fold.max()} in {folder}",
                found=f"none of fold {len(models)}",
                remedy="Copy the whole folder again, or reward again.",
            )
        return cls(models, fold)


def reward_folds(trainers: BoolArray, folds: int, seed: int) -> IntArray:
    """Deal the training users into balanced folds, ``[u]``; -1 for everyone else."""
    fold = np.full(len(trainers), -1)
    users = np.random.default_rng([seed, folds]).permutation(np.flatnonzero(trainers))
    fold[users] = np.arange(len(users)) % folds
    return fold


def fit_reward_models(
    reward: RewardConfig,
    recommender: RecommenderConfig,
    knowledge: KnowledgeConfig,
    inputs: ListInputs,
    lists: CandidateLists,
    knowledge_rows: IntArray,
    trainers: BoolArray,
    validators: BoolArray,
    *,
    seed: int,
    processes: int,
    background: BoolArray | None = None,
    practice_rows: IntArray | None = None,
    folder: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> RewardModels:
    """Train one recommender (per seed) for each fold, on the other folds' users.

    Args:
        reward: backbone, folds and seeds.
        recommender: the recommender's settings.
        knowledge: how it takes in text vectors.
        inputs: histories, item vectors, and the texts' vectors ``[r, d]``.
        lists: candidate lists, ``n``.
        knowledge_rows: ``[n, s]``, the rows of the N texts of each list's user. A training epoch
            shows one of them, so that the model learns what texts say, not whose they are.
        trainers: ``[u]``, users to learn from and to cross-fit over.
        validators: ``[u]``, users for early stopping.
        seed: of folds and training.
        processes: models trained at once, each on one thread; 0: one a core. The models are the
            same whatever it is.
        background: ``[u]``, users whom every model learns from, too; they are not rewarded.
        practice_rows: see `rlrf4rec.recommenders.fit`.
        folder: each model is stored here when it is finished (safetensors), and at last the folds;
            the same call after a kill goes on. None: nothing outlives the call.
        on_progress: told how many of how many models are trained.
    """
    from rlrf4rec.recommenders import fit

    fold = reward_folds(trainers, reward.folds, seed)
    list_fold = fold[lists.user]
    always = np.zeros_like(trainers) if background is None else background
    jobs = {
        f"fold-{index}-seed-{offset}": partial(
            fit,
            recommender,
            knowledge,
            reward.backbone,
            inputs,
            lists,
            knowledge_rows,
            ((list_fold >= 0) & (list_fold != index)) | always[lists.user],
            validators[lists.user],
            seed=seed * 1000 + index * 100 + offset,
            practice_rows=practice_rows,
        )
        for index in range(reward.folds)
        for offset in range(reward.seeds)
    }
    with TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        stored = {Path(place) / name: job for name, job in jobs.items()}
        fitted = _fit_all(stored, processes, on_progress or (lambda done, total: None))
        pl.DataFrame({"fold": fold}).write_parquet(Path(place) / "folds.parquet")
    starts = range(0, len(jobs), reward.seeds)
    return RewardModels([fitted[start : start + reward.seeds] for start in starts], fold)


def _fit_all(
    jobs: dict[Path, Job], processes: int, on_progress: Callable[[int, int], None]
) -> list[FittedRecommender]:
    """The recommenders in the order of the jobs, each in its folder when it is finished."""
    from rlrf4rec.recommenders import FittedRecommender

    # Through files: tensors would come in shared memory, which needs a worker that is still there.
    tasks = [task for task in jobs.items() if not task[0].exists()]
    done = len(jobs) - len(tasks)
    on_progress(done, len(jobs))
    processes = worker_count(processes, len(tasks))
    if processes < 2:
        for task in tasks:
            _fit_into(*task)
            on_progress(done := done + 1, len(jobs))
    else:
        with worker_pool(processes) as pool:
            for future in as_completed([pool.submit(_fit_into, *task) for task in tasks]):
                future.result()
                on_progress(done := done + 1, len(jobs))
    return [FittedRecommender.load(folder) for folder in jobs]


def _fit_into(folder: Path, job: Job) -> None:
    aside = folder.with_name(f".{folder.name}")
    with one_thread():
        job().save(aside)
    os.replace(aside, folder)


def reward_texts(
    models: RewardModels,
    inputs: ListInputs,
    lists: CandidateLists,
    knowledge_rows: IntArray,
    *,
    k: int,
) -> pl.DataFrame:
    """Reward each text on its user's lists.

    Args:
        models: the reward models.
        inputs: as for fitting; ``knowledge_rows`` index its user knowledge.
        lists: the users' candidate lists, ``n``; those without a positive say nothing and are
            passed over.
        knowledge_rows: ``[n, s]``; -1 where a user has no such text.
        k: of NDCG@k.

    Returns:
        One row for each user and sample: ``user``, ``sample``, ``ndcg``, ``log_likelihood``,
        ``n_lists``, and both rewards on the lists of even and of odd feedback chunks (``…_even``,
        ``…_odd``), which share no feedback. Null where a text could not be scored, never a low
        number.
    """
    positives = lists.labels.sum(axis=1)
    scorable = np.flatnonzero((positives > 0) & (positives < lists.labels.shape[1]))
    lists, knowledge_rows = lists.select(scorable), knowledge_rows[scorable]
    n, s = knowledge_rows.shape
    gain = np.zeros((n, s))
    likelihood = np.zeros((n, s))
    weight = np.zeros(n)
    list_fold = models.fold[lists.user]
    for index, seeds in enumerate(models.models):
        rows = np.flatnonzero((list_fold == index) | (list_fold == -1))
        if not len(rows):
            continue
        part = lists.select(rows)
        for model in seeds:
            scores = model.score(inputs, part, knowledge_rows[rows])
            gain[rows] += ndcg(part.labels, scores, k)
            likelihood[rows] += log_likelihood(part.labels, scores)
            weight[rows] += 1
    return _by_user(
        lists, knowledge_rows >= 0, gain / weight[:, None], likelihood / weight[:, None]
    )


def log_likelihood(labels: IntArray, scores: Float32Array) -> FloatArray:
    """The smooth reward: mean log-probability of the positives under the list-wise softmax.

    Args:
        labels: ``[n, l]`` with at least one positive in each list.
        scores: ``[n, s, l]``.

    Returns:
        ``[n, s]``, at most 0. Scores ``[0, 0]`` with one positive give ``ln 0.5 = -0.6931``.
    """
    log_probability = log_softmax(scores.astype(np.float64), axis=-1)
    positive = labels[:, None, :].astype(np.float64)
    total: FloatArray = (log_probability * positive).sum(-1) / positive.sum(-1)
    return total


def _by_user(
    lists: CandidateLists, scored: BoolArray, gain: FloatArray, likelihood: FloatArray
) -> pl.DataFrame:
    n, s = scored.shape
    frame = pl.DataFrame(
        {
            "user": np.repeat(lists.user, s),
            "sample": np.tile(np.arange(s), n),
            "odd": np.repeat(lists.chunk % 2 == 1, s),
            "scored": scored.ravel(),
            "ndcg": gain.ravel(),
            "log_likelihood": likelihood.ravel(),
        },
        schema_overrides={"user": pl.Int32, "sample": pl.Int32},
    )
    values = []
    for name in ("ndcg", "log_likelihood"):
        value = pl.col(name).filter(pl.col("scored"))
        odd = pl.col("odd").filter(pl.col("scored"))
        values += [
            value.mean(),
            value.filter(~odd).mean().alias(f"{name}_even"),
            value.filter(odd).mean().alias(f"{name}_odd"),
        ]
    return (
        frame.group_by("user", "sample", maintain_order=True)
        .agg(*values, pl.col("scored").sum().cast(pl.Int32).alias("n_lists"))
        .sort("user", "sample")
    )
