"""Worker processes that end before their work is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlrf4rec.errors import MissingPartError
from rlrf4rec.workers import worker_count, worker_pool


def test_a_worker_that_dies_is_named() -> None:
    with pytest.raises(MissingPartError, match="ended early: for want of memory"):  # noqa: SIM117
        with worker_pool(1) as pool:
            pool.submit(os._exit, 3).result()


SLEEPERS = """
import time
from rlrf4rec.workers import worker_pool

if __name__ == "__main__":
    with worker_pool(2) as pool:
        tasks = [pool.submit(time.sleep, 60) for _ in range(2)]
        print("begun", flush=True)
        tasks[0].result()
"""


def test_ctrl_c_ends_workers_at_once_and_only_the_caller_tells(tmp_path: Path) -> None:
    """It comes while they start, to all processes of the terminal."""
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert told.count("Traceback") == 1
    assert told.strip().endswith("KeyboardInterrupt")
    # What multiprocessing keeps beside them is last to see that nobody is there.
    deadline = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def test_no_more_workers_than_tasks_or_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5, 7, 8})
    assert [worker_count(0, n_tasks) for n_tasks in (2, 3, 99)] == [2, 3, 3]
    assert worker_count(5, 99) == 5
