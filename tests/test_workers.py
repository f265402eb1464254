"""Worker processes that end before their work is done."""

from __future__ import annotations

import os

import pytest

from rlrf4rec.errors import MissingPartError
from rlrf4rec.workers import worker_count, worker_pool


def test_a_worker_that_dies_is_named() -> None:
    with pytest.raises(MissingPartError, match="ended early: for want of memory"):  # noqa: SIM117
        with worker_pool(1) as pool:
            pool.submit(os._exit, 3).result()


def test_no_more_workers_than_tasks_or_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5, 7, 8})
    assert [worker_count(0, n_tasks) for n_tasks in (2, 3, 99)] == [2, 3, 3]
    assert worker_count(5, 99) == 5
