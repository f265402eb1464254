"""Work that a GPU does again and again, recorded once (CUDA graphs).

A small model's step is made of thousands of short kernels, and a GPU waits while Python starts them
one by one. Recorded, they are started together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Work = Callable[[], None]
"""Reads and writes tensors that stay where they are, asks the device nothing, and makes the same
calls each time. What it leaves in new tensors is found in these after every call."""

Pool = Any
"""Of memory; PyTorch hides its type. None where nothing is recorded."""


def can_record(device: torch.device) -> bool:
    """Whether work can be recorded there."""
    return device.type == "cuda"


def new_pool(device: torch.device) -> Pool:
    """Memory for several recordings."""
    if not can_record(device):
        return None
    return torch.cuda.graph_pool_handle()


def warm_up(work: Work, device: torch.device) -> None:
    """Do the work as it will be recorded: libraries make themselves ready in the first call."""
    if not can_record(device):
        work()
        return
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)


def record(work: Work, device: torch.device, pool: Pool = None) -> Work:
    """The same work, recorded but not done yet; on a CPU the work itself.

    Args:
        work: was done before by `warm_up`.
        device: where.
        pool: (`new_pool`) shared with other recordings, of which none needs what it left in new
            tensors after another was done.

    Raises:
        RuntimeError: the work cannot be recorded, or there is no memory left for it.
    """
    if not can_record(device):
        return work
    graph = torch.cuda.CUDAGraph()
    # Other threads, such as one that pins memory, may go on meanwhile.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        work()
    return graph.replay
