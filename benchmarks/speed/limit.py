"""What the machine can do at most: matrix products of given shapes, and copies."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from speed.measure import seconds

_REPEATS = 7


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


def product_seconds(products: Iterable[Product], dtype: torch.dtype) -> float:
    """Seconds that all products take, each shape measured by itself."""
    return sum(one.times * _one_product(one, dtype) for one in products)


def _one_product(product: Product, dtype: torch.dtype) -> float:
    a = torch.randn(product.m, product.k).to(dtype)
    # As in a linear layer, whose weights lie transposed.
    b = torch.randn(product.n, product.k).to(dtype).T
    a @ b
    return statistics.median(seconds(lambda: a @ b) for _ in range(_REPEATS))


def copy_bytes_per_second(n_bytes: int = 2**28) -> float:
    """Bytes read and written per second by a copy that no cache holds."""
    source = torch.empty(n_bytes, dtype=torch.uint8)
    target = torch.empty_like(source)
    target.copy_(source)
    took = statistics.median(seconds(lambda: target.copy_(source)) for _ in range(_REPEATS))
    return 2 * n_bytes / took
