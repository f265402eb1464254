"""What learning from everybody gains where the LLM writes for some of the users
(`generation.max_users`): python benchmarks/whole_log.py RUN N_SAMPLES [key=value …]

The users of RUN, which holds a text of each, are dealt into N_SAMPLES samples. For each sample
recommenders are trained twice: on the sample alone, as with `data.max_users`, and on everybody,
the others as users that no LLM wrote for. Every user is tested once, on the same lists, always
out-of-fold. NDCG@5, one seed: both means over lists, what is gained ± its standard error over
users, and what is gained over users, each of whom counts once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from command import call
from fold_0 import said_gain
from rlrf4rec.config import load_config
from rlrf4rec.evaluation.metrics import ndcg
from rlrf4rec.records import PADDING, BoolArray, FloatArray
from rlrf4rec.stages.trials import Trial, run_trial, trial_of
from rlrf4rec.stages.world import open_world
from rlrf4rec.workers import worker_pool
from rlrf4rec.workspace import Workspace
from tuned import systems_of

SYSTEMS = ("id", "history_text", "untuned", "tuned", "tuned_with_history")
"""The first ranks by IDs alone; all others start from it."""
NEED_NO_LLM = {"id", "history_text"}
"""Systems that read the same of every user, written for or not."""


@dataclass(frozen=True)
class Job:
    """A system's trial on one sample of the users.

    Attributes:
        trial: of the whole run.
        sample: ``[n]``, lists of the sample's users.
        silent: whether nothing was written for the others.
        folder: recommenders by IDs alone; a trial by IDs leaves them there.
    """

    trial: Trial
    sample: BoolArray
    silent: bool
    folder: Path


def main(run: Path, n_samples: int, overrides: list[str]) -> None:
    """Print a row a system and reranker."""
    with TemporaryDirectory() as temporary:
        world = open_world(load_config(run / "config.yaml", overrides), Workspace(temporary))
        lists, systems = world.lists(), {one.name: one for one in systems_of(world, run)}
        dealt = np.random.default_rng(7).permutation(world.dataset.n_users) % n_samples
        with worker_pool(world.config.machine.processes) as pool:
            for name in SYSTEMS:
                for backbone in world.config.evaluation.backbones:
                    trial = trial_of(world, systems[name], lists.kind, backbone, 0)
                    silent = name not in NEED_NO_LLM
                    jobs = [
                        Job(
                            trial,
                            dealt[lists.user] == number,
                            silent,
                            Path(temporary) / f"{backbone}-{number}",
                        )
                        for number in range(n_samples)
                    ]
                    values = np.stack(list(pool.map(_by_both, jobs)))
                    alone, whole = np.nansum(values, axis=0)
                    there = np.flatnonzero(np.isfinite(values).any(axis=(0, 1)))
                    gain = said_gain((whole - alone)[there], lists.user[there])
                    means = f"{alone[there].mean():.4f} {whole[there].mean():.4f}"
                    print(f"{name:28s}{backbone:9s}{means}  {gain}", flush=True)


def _by_both(job: Job) -> FloatArray:
    """NDCG@5 of each list, learned from the sample and from everybody, ``[2, n]``; NaN: others'."""
    trial = job.trial
    values: FloatArray = np.full((2, len(trial.lists)), np.nan)
    tested = np.flatnonzero(trial.tested & job.sample)
    told = trial.lists.labels.sum(axis=1) > 0
    for row, of_part in enumerate((_alone(job), _among_all(job))):
        folder = job.folder / str(row)
        by_ids = trial.user_vectors is None
        scores = run_trial(
            replace(of_part, base=None if by_ids else folder, keep=folder if by_ids else None)
        )
        found = ndcg(trial.lists.labels[tested], scores, 5)
        values[row, tested] = np.where(told[tested], found, np.nan)
    return values


def _alone(job: Job) -> Trial:
    """With the sample's lists only."""
    trial, mine = job.trial, job.sample
    return replace(
        trial,
        lists=trial.lists.select(mine),
        rows=trial.rows[mine],
        practice=trial.practice[mine],
        fold=trial.fold[mine],
        validation=trial.validation[mine],
        tested=trial.tested[mine],
    )


def _among_all(job: Job) -> Trial:
    """With everybody's lists, the others' without a text of the LLM."""
    trial, mine = job.trial, job.sample
    heard = mine if job.silent else np.ones_like(mine)
    return replace(
        trial,
        rows=np.where(heard[:, None], trial.rows, PADDING),
        fold=np.where(mine, trial.fold, PADDING),
        validation=trial.validation & mine,
        tested=trial.tested & mine,
    )


if __name__ == "__main__":
    call(lambda given: main(Path(given[0]), int(given[1]), given[2:]), least=2)
