"""Systems tried on the lists of LLM fold 0 alone, so that choices do not touch the other users."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlrf4rec.evaluation.metrics import ndcg, user_means
from rlrf4rec.records import FloatArray, IntArray
from rlrf4rec.stages.systems import System
from rlrf4rec.stages.trials import run_trial, tested_lists, trial_of
from rlrf4rec.stages.world import World
from rlrf4rec.workers import worker_pool


def ndcg_on_fold_0(
    world: World, systems: Sequence[System], backbones: Sequence[str]
) -> tuple[dict[tuple[str, str], FloatArray], IntArray]:
    """NDCG@5 of each list by (system, backbone), one seed, ``[n]``; and whose lists they are."""
    kind = world.config.lists.kind
    jobs = [(system, backbone) for system in systems for backbone in backbones]
    with worker_pool(0) as pool:
        trials = [trial_of(world, system, kind, backbone, 0) for system, backbone in jobs]
        scores = list(pool.map(run_trial, trials))
    tested = world.lists(kind).select(tested_lists(world, kind))
    mine = (world.folds.half[tested.user] == 0) & tested.labels.any(axis=1)
    lists = tested.select(mine)
    values = {
        (system.name, backbone): ndcg(lists.labels, score[mine], 5)
        for (system, backbone), score in zip(jobs, scores, strict=True)
    }
    return values, lists.user


def _standard_error(values: FloatArray, users: IntArray) -> float:
    """Of a mean over lists, users drawn with all their lists."""
    _, group = np.unique(users, return_inverse=True)
    sums = np.bincount(group, values - values.mean())
    return float((sums**2).sum() ** 0.5 / len(values))


def said_gain(gain: FloatArray, users: IntArray) -> str:
    """A difference of each list ``[n]``: mean over lists ± its standard error, mean over users."""
    by_user = np.nanmean(user_means(gain[None], users))
    return f"{gain.mean():+.4f} ± {_standard_error(gain, users):.4f}, by user {by_user:+.4f}"
