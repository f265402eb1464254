"""What the machine can do at most: matrix products of given shapes, and copies."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from transformers import PretrainedConfig

from speed.measure import finish, seconds

_REPEATS = 7
_RECORDED = 20
"""Products that a GPU is given at once."""


@dataclass(frozen=True)
class Product:
    """``[m, k] @ [k, n]``, made ``times`` times."""

    m: int
    k: int
    n: int
    times: float = 1.0

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.m * self.k * self.n * self.times


def layer_shapes(config: PretrainedConfig) -> list[tuple[int, int]]:
    """``[k, n]`` of the matrices of one layer, as in Llama."""
    width, inner = config.hidden_size, config.intermediate_size
    both = width // config.num_attention_heads * config.num_key_value_heads
    shapes = [(width, width), (width, both), (width, both), (width, width)]
    return [*shapes, (width, inner), (width, inner), (inner, width)]


def product_seconds(products: Iterable[Product], dtype: torch.dtype, device: str = "cpu") -> float:
    """Seconds that all products take, each shape measured by itself."""
    if device == "cuda":
        return sum(one.times * _on_gpu(one.m, one.k, one.n, dtype) for one in products)
    return sum(one.times * _one_product(one, dtype) for one in products)


def _one_product(product: Product, dtype: torch.dtype) -> float:
    a, b = _factors(product.m, product.k, product.n, dtype, "cpu")
    a @ b
    return statistics.median(seconds(lambda: a @ b) for _ in range(_REPEATS))


@cache  # rounds share most of their shapes
def _on_gpu(m: int, k: int, n: int, dtype: torch.dtype) -> float:
    """Seconds of one product among many that were recorded and are replayed.

    Given one by one, small products would wait for Python.
    """
    a, b = _factors(m, k, n, dtype, "cuda")
    finish("cuda")
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        # What a first product sets up cannot be recorded.
        a @ b
    finish("cuda")
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(_RECORDED):
            a @ b

    def replay() -> None:
        graph.replay()
        finish("cuda")

    replay()
    return statistics.median(seconds(replay) for _ in range(_REPEATS)) / _RECORDED


def _factors(m: int, k: int, n: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    """``[m, k]`` and ``[k, n]``, the second as in a linear layer, whose weights lie transposed."""
    a = torch.randn(m, k, device=device).to(dtype)
    return a, torch.randn(n, k, device=device).to(dtype).T


def copy_bytes_per_second(n_bytes: int = 2**28, device: str = "cpu") -> float:
    """Bytes read and written per second by a copy that no cache holds."""
    source = torch.empty(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        finish(device)

    copy()
    took = statistics.median(seconds(copy) for _ in range(_REPEATS))
    return 2 * n_bytes / took
