"""The rounds of a run, each policy's in a process of its own.

    python benchmarks/policies.py CONFIG RUN [KEY=VALUE …]

A policy needs nothing of the other but the untuned LLM's texts. One process leaves a GPU idle most
of the time, so that two take little longer than one. `rlrf4rec run CONFIG --output RUN` goes on
from what this leaves (to the evaluation). All rounds are made; what stops them early is looked at
there. Killed and called again, it goes on.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from command import call
from rlrf4rec.config import Config, load_config
from rlrf4rec.loop import run_rounds, write_first_texts
from rlrf4rec.running import remember
from rlrf4rec.stages.prompting import write_prompts
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace


class Lines:
    """Says on one line when a stage begins and ends."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._start = time.monotonic()

    def start(self, name: str, unit: str) -> Callable[[int, int], None]:
        """A stage begins; its steps are not shown."""
        self._say(f"{name} …")
        return lambda done, total: None

    def finish(self, name: str, seconds: float) -> None:
        """A stage has ended, or was there."""
        self._say(f"{name} {seconds:.0f} s")

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._start:6.1f}  {self._who:8s}  {what}", flush=True)


def main(config_path: Path, run: Path, settings: list[str]) -> int:
    """The first texts, then both policies at once, then everything in one folder."""
    config = load_config(config_path, settings)
    with (workspace := Workspace(run)).lock():
        world = open_world(config, workspace, Lines("all"))
        remember(config, run)
        write_first_texts(world, write_prompts(world))
    arguments = [str(config_path), str(run), *settings]
    processes = [
        subprocess.Popen([sys.executable, __file__, "--policy", str(policy), *arguments])
        for policy in world.folds.policies
    ]
    failed = [process.wait() for process in processes]
    if any(failed):
        return max(map(abs, failed))
    folders = [policy_folder(run, policy) for policy in world.folds.policies]
    with (workspace := Workspace(run, siblings=folders)).lock():
        run_rounds(_open(config, workspace, "all"))
    return 0


def one_policy(policy: int, config_path: Path, run: Path, settings: list[str]) -> int:
    """A policy's rounds, in a folder of its own beside the run's."""
    workspace = Workspace(policy_folder(run, policy), siblings=[run])
    with workspace.lock():
        run_rounds(
            _open(load_config(config_path, settings), workspace, f"policy {policy}"), [policy]
        )
    return 0


def policy_folder(run: Path, policy: int) -> Path:
    """Where a policy's rounds are made."""
    return run.with_name(f"{run.name}-policy-{policy}")


def _open(config: Config, workspace: Workspace, who: str) -> World:
    rounds = config.rounds.model_copy(update={"early_stop": False})
    return open_world(config.model_copy(update={"rounds": rounds}), workspace, Lines(who))


def _called(arguments: list[str]) -> int:
    if arguments[0] == "--policy":
        policy, config_path, run, *settings = arguments[1:]
        return one_policy(int(policy), Path(config_path), Path(run), settings)
    config_path, run, *settings = arguments
    return main(Path(config_path), Path(run), settings)


if __name__ == "__main__":
    call(_called, least=2)
