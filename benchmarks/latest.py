"""What a user's latest interactions are worth: python benchmarks/latest.py RUN [key=value …]

Recommenders learn from reading histories, the oldest half of a log, as in every evaluation. Each
list is then ranked with the reading history, and with what the user did last before that list
(`evaluation.deploy_latest`): by `id` its items alone, by `history_text` also its text. NDCG@5, one
seed: both means over lists, what is gained ± its standard error over users, and what is gained over
users, each of whom counts once. No LLM's text is read.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from command import call
from fold_0 import said_gain
from rlrf4rec.config import load_config
from rlrf4rec.evaluation.metrics import ndcg
from rlrf4rec.knowledge.texts import history_texts
from rlrf4rec.recommenders import ListInputs
from rlrf4rec.records import PADDING, CandidateLists, Float32Array, FloatArray, Histories
from rlrf4rec.stages.systems import System, history_text, without_text
from rlrf4rec.stages.trials import Trial, fitted_folds, trial_inputs, trial_of
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workers import worker_pool
from rlrf4rec.workspace import Workspace


@dataclass(frozen=True)
class Job:
    """A system's trial, and what is known before each of its lists.

    Attributes:
        trial: as in the evaluation.
        known: ``[n]`` histories, one a list.
        vectors: ``[n, d]``, their texts; None without text.
    """

    trial: Trial
    known: Histories
    vectors: Float32Array | None


def main(run: Path, overrides: list[str]) -> None:
    """Print a row a system and reranker."""
    with TemporaryDirectory() as temporary:
        world = open_world(load_config(run / "config.yaml", overrides), Workspace(temporary))
        jobs = _jobs(world)
        with worker_pool(world.config.machine.processes) as pool:
            results = pool.map(_by_both, jobs.values())
            for (system, backbone), (before, after) in zip(jobs, results, strict=True):
                there = ~np.isnan(before)
                gain = said_gain((after - before)[there], world.lists().user[there])
                sys.stdout.write(
                    f"{system:14s}{backbone:9s}{before[there].mean():.4f} "
                    f"{after[there].mean():.4f}  {gain}  ({there.sum():,} lists)\n"
                )


def _jobs(world: World) -> dict[tuple[str, str], Job]:
    kind, backbones = world.config.lists.kind, world.config.evaluation.backbones
    known = _before_each(world, world.lists())
    texts = history_texts(world.dataset, known, world.config.data.positive_rating)
    vectors = world.encoder.encode(texts)

    def job(system: System, backbone: str) -> Job:
        trial = trial_of(world, system, kind, backbone, 0)
        return Job(trial, known, None if trial.user_vectors is None else vectors)

    systems = [without_text(world), history_text(world)]
    return {
        (some.name, backbone): job(some, backbone) for some in systems for backbone in backbones
    }


def _before_each(world: World, lists: CandidateLists) -> Histories:
    """What its user did last before each list, as much as the recommenders read, ``[n]``."""
    log, most = world.dataset.interactions, world.histories.items.shape[1]
    item = log["item"].to_numpy()
    rating = log["rating"].cast(float).fill_null(np.nan).to_numpy()
    first = np.searchsorted(log["user"].to_numpy(), np.arange(world.dataset.n_users))
    items = np.full((len(lists), most), PADDING)
    ratings = np.full(items.shape, np.nan, dtype=np.float32)
    ends = world.histories.lengths[lists.user] + lists.chunk * world.config.lists.chunk_size
    lengths = np.minimum(ends, most)
    for row, (user, end, length) in enumerate(zip(lists.user, ends, lengths, strict=True)):
        part = slice(first[user] + end - length, first[user] + end)
        items[row, :length], ratings[row, :length] = item[part], rating[part]
    return Histories(items, ratings, lengths)


def _by_both(job: Job) -> tuple[FloatArray, FloatArray]:
    """NDCG@5 of each list with the reading history and with the latest one; NaN: not tested."""
    trial, lists = job.trial, job.trial.lists
    inputs = trial_inputs(trial)
    latest = ListInputs.from_numpy(job.known, trial.item_vectors, job.vectors, trial.n_items)
    # Each list has a user of its own there, and a text, where its user has one.
    places = np.arange(len(lists))
    own = trial.rows[:, 0]
    text = np.where(own >= 0, places, PADDING)
    before, after = np.full((2, len(lists)), np.nan)
    for fitted, test in fitted_folds(trial, inputs):
        rows = np.flatnonzero(test & lists.labels.any(axis=1))
        part = lists.select(rows)
        before[rows] = ndcg(part.labels, fitted.score(inputs, part, own[rows]), 5)
        scores = fitted.score(latest, replace(part, user=rows), text[rows])
        after[rows] = ndcg(part.labels, scores, 5)
    return before, after


if __name__ == "__main__":
    call(lambda given: main(Path(given[0]), given[1:]), least=1)
