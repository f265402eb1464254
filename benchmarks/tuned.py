"""What tuning gained, before a whole evaluation: python benchmarks/tuned.py RUN [key=value …]

Recommenders trained anew on one text a user, as `evaluate` trains them (all folds, seeds and
rerankers), for a part of the systems: `untuned`, the last tuned round, alone and with the history,
`shuffled`, `id`, `profile` and `history_text`. NDCG@5 with 95 % intervals over users, by list and
by user. RUN needs its texts, not its results; its recommenders may have other settings.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from command import call
from rlrf4rec.config import load_config
from rlrf4rec.evaluation.intervals import Comparison, compare, estimate
from rlrf4rec.evaluation.metrics import ndcg, user_means
from rlrf4rec.records import FloatArray, IntArray
from rlrf4rec.stages.systems import (
    System,
    held_out_texts,
    history_text,
    one_row_each,
    profile,
    shuffled,
    without_text,
)
from rlrf4rec.stages.text_inputs import encode_texts
from rlrf4rec.stages.trials import Trial, run_trial, tested_lists, trial_of
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workers import worker_pool
from rlrf4rec.workspace import Stage, Workspace


def main(folder: Path, overrides: list[str]) -> None:
    """Print the systems, and how the tuned one differs from each of the others."""
    with TemporaryDirectory() as temporary:
        world = open_world(load_config(folder / "config.yaml", overrides), Workspace(temporary))
        systems = systems_of(world, folder)
        values, users = trained_ndcg(world, systems)
    for name, backbone in values:
        by_list, tuned = values[name, backbone], values["tuned", backbone]
        line = f"{name:18s} {backbone:8s} {estimate(by_list, users).mean:.4f}"
        if name != "tuned":
            line += f"  tuned minus it: {difference(tuned, by_list, users)}"
        print(line, flush=True)


def systems_of(world: World, folder: Path) -> list[System]:
    """The systems that are compared, one text a user."""
    own, texts = one_row_each(world), held_out(world, folder)
    untuned, tuned = (
        System(name, encode_texts(world, of_all, join_history=False), own)
        for name, of_all in texts.items()
    )
    joined = encode_texts(world, texts["tuned"], join_history=True)
    return [
        untuned,
        tuned,
        System("tuned_with_history", joined, own),
        shuffled(world, tuned),
        without_text(world),
        profile(world),
        history_text(world),
    ]


def held_out(world: World, folder: Path) -> dict[str, pl.DataFrame]:
    """By ``untuned`` and ``tuned`` (the last round), everybody's first text by a policy that was
    tuned on other users, sorted by user.
    """
    last = max(int(path.name.removeprefix("round-")) for path in folder.glob("round-*"))
    halves = world.folds.policies
    rounds = {
        "untuned": {half: folder / "round-0/base" for half in halves},
        "tuned": {half: folder / f"round-{last}/policy-{half}" for half in halves},
    }
    return {
        name: held_out_texts(
            world, {half: Stage(path / "samples", "", 0.0) for half, path in writers.items()}, 1
        )
        for name, writers in rounds.items()
    }


def trained_ndcg(
    world: World, systems: list[System]
) -> tuple[dict[tuple[str, str], FloatArray], IntArray]:
    """``[seeds, n]`` by (system, backbone) on the lists with a positive; and whose they are."""
    config = world.config
    kind, seeds = config.lists.kind, config.evaluation.seeds
    jobs = [(system, name) for system in systems for name in config.evaluation.backbones]
    by_ids = without_text(world)
    with worker_pool(config.machine.processes) as pool, TemporaryDirectory() as temporary:

        def trial(
            system: System, name: str, seed: int, base: Path | None = None, keep: Path | None = None
        ) -> Trial:
            return replace(trial_of(world, system, kind, name, seed), base=base, keep=keep)

        def folder(name: str, seed: int) -> Path:
            return Path(temporary) / f"{name}-{seed}"

        # What all systems start from is trained once.
        bases = [(name, seed) for name in config.evaluation.backbones for seed in seeds]
        list(pool.map(run_trial, [trial(by_ids, *base, keep=folder(*base)) for base in bases]))
        trials = [
            trial(system, name, seed, folder(name, seed)) for system, name in jobs for seed in seeds
        ]
        scores = list(pool.map(run_trial, trials))
    tested = world.lists(kind).select(tested_lists(world, kind))
    scorable = tested.labels.any(axis=1)
    labels = tested.labels[scorable]
    gains = [ndcg(labels, score[scorable], 5) for score in scores]
    return {
        (system.name, name): np.stack(gains[place * len(seeds) : (place + 1) * len(seeds)])
        for place, (system, name) in enumerate(jobs)
    }, tested.user[scorable]


def difference(a: FloatArray, b: FloatArray, users: IntArray) -> str:
    """``a`` minus ``b``, ``[seeds, n]`` each, by list and by user with their 95 % intervals."""
    by_list = compare(a, b, users)
    by_user = compare(user_means(a, users), user_means(b, users), users)
    return f"by list {_interval(by_list)}, by user {_interval(by_user)}"


def _interval(gain: Comparison) -> str:
    assert gain.diff is not None and gain.ci95 is not None
    low, high = gain.ci95
    return f"{gain.diff:+.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    call(lambda given: main(Path(given[0]), given[1:]), least=1)
