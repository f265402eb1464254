"""What tuning gained, before a whole evaluation: python benchmarks/tuned.py RUN [key=value …]

Recommenders trained anew on one text a user, as `evaluate` trains them (all folds, seeds and
rerankers), for four systems only: `id`, `untuned`, `shuffled` and the last tuned round. NDCG@5 with
95 % intervals over users, by list and by user. RUN needs its texts, not its results.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from rlrf4rec.config import load_config
from rlrf4rec.evaluation.intervals import Comparison, compare, estimate
from rlrf4rec.evaluation.metrics import ndcg, user_means
from rlrf4rec.records import FloatArray, IntArray
from rlrf4rec.stages.systems import System, both_halves, one_other
from rlrf4rec.stages.trials import run_trial, tested_lists, trial_of, worker_pool
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace


def main(folder: Path, overrides: list[str]) -> None:
    """Print the systems, and how the tuned one differs from each of the others."""
    with TemporaryDirectory() as temporary:
        world = open_world(load_config(folder / "config.yaml", overrides), Workspace(temporary))
        systems = _systems(world, folder)
        values, users = trained_ndcg(world, systems)
    for name, backbone in values:
        by_list, tuned = values[name, backbone], values["tuned", backbone]
        line = f"{name:10s} {backbone:8s} {estimate(by_list, users).mean:.4f}"
        if name != "tuned":
            gain = compare(tuned, by_list, users)
            by_user = compare(user_means(tuned, users), user_means(by_list, users), users)
            line += f"  tuned minus it: by list {difference(gain)}, by user {difference(by_user)}"
        print(line, flush=True)


def _systems(world: World, folder: Path) -> list[System]:
    n_users = world.dataset.n_users
    last = max(int(path.name.removeprefix("round-")) for path in folder.glob("round-*"))
    rounds = {
        "untuned": [(folder / "round-0/base", half) for half in world.folds.policies],
        "tuned": [(folder / f"round-{last}/policy-{half}", half) for half in world.folds.policies],
    }
    vectors = {
        name: world.encoder.encode([world.linker.link(text) for text in held_out(world, writers)])
        for name, writers in rounds.items()
    }
    own = both_halves(np.arange(n_users)[:, None])
    reads = one_other(n_users, np.random.default_rng([world.config.seed, 1]))
    return [
        System("untuned", vectors["untuned"], own),
        System("tuned", vectors["tuned"], own),
        System("shuffled", vectors["tuned"], own[reads], reads=reads),
        System("id", None, np.full((n_users, 2, 1), -1)),
    ]


def held_out(world: World, writers: list[tuple[Path, int]]) -> list[str]:
    """Everybody's first text by a policy that was tuned on other users, ``[u]``."""
    text = [""] * world.dataset.n_users
    for writer, half in writers:
        samples = pl.read_parquet(writer / "samples/samples.parquet").filter(pl.col("sample") == 0)
        for user, said in samples.select("user", "text").iter_rows():
            if world.folds.half[user] != half:
                text[user] = said
    return text


def trained_ndcg(
    world: World, systems: list[System]
) -> tuple[dict[tuple[str, str], FloatArray], IntArray]:
    """``[seeds, n]`` by (system, backbone) on the lists with a positive; and whose they are."""
    config = world.config
    kind, seeds = config.lists.kind, config.evaluation.seeds
    jobs = [(system, name) for system in systems for name in config.evaluation.backbones]
    with worker_pool(config.machine.processes) as pool:
        trials = [trial_of(world, *(job[0], kind, job[1]), seed) for job in jobs for seed in seeds]
        scores = list(pool.map(run_trial, trials))
    tested = world.lists(kind).select(tested_lists(world, kind))
    scorable = tested.labels.any(axis=1)
    labels = tested.labels[scorable]
    gains = [ndcg(labels, score[scorable], 5) for score in scores]
    return {
        (system.name, name): np.stack(gains[place * len(seeds) : (place + 1) * len(seeds)])
        for place, (system, name) in enumerate(jobs)
    }, tested.user[scorable]


def difference(gain: Comparison) -> str:
    """The difference and its 95 % interval."""
    assert gain.diff is not None and gain.ci95 is not None
    low, high = gain.ci95
    return f"{gain.diff:+.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
