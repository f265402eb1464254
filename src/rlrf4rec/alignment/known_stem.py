"""What all prompts begin with, read once for a whole tuning by a model that does not change.

DPO's reference reads the same instruction and worked examples in every batch, and its keys and
values of them are always the same; the policy's are not, since it learns.
"""

from __future__ import annotations

from torch import Tensor, nn

from rlrf4rec.generation.base import shared_beginning


class KnownStem:
    """Keys and values of a stem by layer, under one model and one adapter."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._layers: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def reach(self, stem: Tensor) -> int:
        """How many of a stem's first tokens ``[s]`` are known; 0 where it is worth reading anew.

        The prompts of a batch may begin alike for a few tokens more than those of all others.
        """
        known = shared_beginning(self._tokens, stem.tolist()) if self._layers else 0
        return known if 2 * known >= len(stem) else 0

    def read_anew(self, stem: Tensor) -> None:
        """Forget everything: a stem ``[s]`` is about to be read, and every layer to call `keep`."""
        self._tokens = stem.tolist()
        self._layers.clear()

    def keep(self, layer: nn.Module, key: Tensor, value: Tensor) -> None:
        """A layer's keys and values of the stem, ``[1, g, s, d]``."""
        # Copies: slices would hold on to the whole row.
        self._layers[layer] = (key.clone(), value.clone())

    def of(self, layer: nn.Module, length: int) -> tuple[Tensor, Tensor]:
        """What `keep` was given, of the first ``length`` tokens."""
        key, value = self._layers[layer]
        return key[:, :, :length], value[:, :, :length]
