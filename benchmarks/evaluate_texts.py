"""A run's texts under recommenders of other settings.

    python benchmarks/evaluate_texts.py RUN FOLDER [--systems NAME,…] [key=value …]

`rlrf4rec evaluate` keeps to the recommenders that rewarded the texts; this takes texts and rewards
as they lie in RUN, trains and tests every recommender anew under RUN's config.yaml with the given
changes, and writes FOLDER/results.json and config.yaml. With names of systems it takes these alone,
and `id`, from which all others start. Finished trainings are kept: run it again to go on, also with
other names.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from command import call
from rlrf4rec.config import load_config
from rlrf4rec.evaluation.results import write_results
from rlrf4rec.progress import Silent
from rlrf4rec.running import remember
from rlrf4rec.stages.evaluating import evaluate
from rlrf4rec.stages.trail import Round, Trail
from rlrf4rec.stages.world import open_world
from rlrf4rec.workspace import Stage, Workspace, read_stage


class _Names(Silent):
    """Prints each system as it is finished."""

    def finish(self, stage: str, seconds: float) -> None:
        print(f"{stage}: {seconds:.0f} s", flush=True)


def main(run: Path, folder: Path, systems: Collection[str] | None, overrides: list[str]) -> None:
    """Write the results."""
    workspace = Workspace(folder)
    with workspace.lock():
        world = open_world(load_config(run / "config.yaml", overrides), workspace, _Names())
        remember(world.config, folder)
        evaluation = evaluate(world, finished_rounds(run, world.folds.policies), systems)
        write_results(folder / "results.json", evaluation.results)


def finished_rounds(run: Path, halves: list[int]) -> Trail:
    """The texts and rewards of every round, whatever settings they were made with."""
    trail = Trail(_stage(run / "prompts"))
    for number in range(sum(1 for _ in run.glob("round-*"))):
        current = Round(number)
        for half in halves:
            of_policy = run / current.folder(half)
            writer = of_policy if number else run / "round-0/base"
            current.samples[half] = _stage(writer / "samples")
            current.judged[half] = _stage(of_policy / f"judged-{half}")
            for stages, name in ((current.rewards, "rewards"), (current.tuning, "tuning")):
                if (of_policy / name).exists():
                    stages[half] = _stage(of_policy / name)
        trail.rounds.append(current)
    if (run / "random-pairs").exists():
        trail.random_pairs = _control(run / "random-pairs", halves)
    if (run / "cool").exists():
        trail.cool = _stage(run / "cool" / "samples")
    return trail


def _control(folder: Path, halves: list[int]) -> Round:
    """The texts of the policies that were tuned on random pairs, and how they were tuned."""
    control = Round(1)
    for half in halves:
        control.samples[half] = _stage(folder / f"policy-{half}" / "samples")
        control.tuning[half] = _stage(folder / f"policy-{half}" / "tuning")
    return control


def _stage(folder: Path) -> Stage:
    stage = read_stage(folder)
    assert stage is not None, f"no finished stage in {folder}"
    return stage


def _called(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--systems", type=lambda names: names.split(","))
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_intermixed_args(arguments)
    main(given.run, given.folder, given.systems, given.overrides)


if __name__ == "__main__":
    call(_called, least=2)
