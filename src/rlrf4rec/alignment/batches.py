"""The order in which pairs are learned from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class PromptSampler(Sampler[int]):
    """Pairs in random order, those of one prompt next to each other, so that they can share it.

    Args:
        prompts: of every pair.
        seed: of the order, which is another one in each epoch.
    """

    def __init__(self, prompts: Sequence[str], seed: int) -> None:
        pairs_of: dict[str, list[int]] = {}
        for pair, prompt in enumerate(prompts):
            pairs_of.setdefault(prompt, []).append(pair)
        self._groups = list(pairs_of.values())
        self._length = len(prompts)
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(len(self._groups))
        for place in order:
            yield from self._groups[place]

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        self._epoch = epoch


def largest_part(step: int, unit: int, most: int) -> int | None:
    """The largest multiple of ``unit`` that divides a step and is at most ``most``; None: none is.

    Example:
        >>> largest_part(16, 2, 7)
        4
        >>> largest_part(16, 2, 1) is None
        True
    """
    parts = range(unit, min(step, most) + 1, unit)
    return max((part for part in parts if step % part == 0), default=None)
