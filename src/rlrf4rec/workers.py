"""Worker processes that train recommenders beside each other, each on one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess

from rlrf4rec.errors import MissingPartError


def worker_count(processes: int, n_tasks: int) -> int:
    """Processes to work with: those asked for (0: one a core), and no more than there are tasks."""
    return min(processes or _cores(), n_tasks)


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def worker_pool(processes: int) -> Iterator[Executor]:
    """Processes for trainings; 0 means one a core. They end when their parent dies or is stopped.

    Raises:
        MissingPartError: one of them ended before its work was done.
    """
    with ProcessPoolExecutor(
        max_workers=processes or _cores(),
        # A forked child of a process that has run torch may hang.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_end_with_parent,
    ) as pool:
        workers = _started(pool)
        try:
            yield pool
        except BrokenProcessPool as error:
            raise MissingPartError(
                "worker processes that live until their work is done",
                found="one that ended early: for want of memory, or in a script that calls "
                "rlrf4rec without `if __name__ == '__main__':`, which each of them runs again",
                remedy="Lower machine.processes, or put the script's calls under that line.",
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                # Or the pool would wait for trainings that nobody asks for any more.
                worker.terminate()
            raise


def _started(pool: ProcessPoolExecutor) -> list[BaseProcess]:
    """The pool's processes, which Ctrl-C does not reach: they would each tell where they were."""
    # It lets the signal through again when it starts, so it has to be there before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pool.submit(int)
        return list(pool._processes.values())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: sums are made in one order, on every machine and beside any others."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
