"""Log-probabilities of answers on a CPU, a tile of the vocabulary at a time.

TRL's function, whose tiles are made for a GPU, where a compiled kernel folds each in one pass. On a
CPU it folds with some fifteen operations a tile; these are the same numbers from half as many.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl.kernels import ChunkedLogProbFunction
from trl.trainer import utils as trl_utils

TILE_WORDS = 2048
"""Words of the vocabulary whose logits are computed at a time.

TRL takes 32,768, right for a GPU. On a CPU every operation passes through each block of logits, and
one of 68 MB (520 tokens) is allocated anew and fetched from memory by each: 1 s for the head of
SmolLM2-135M, 0.1 s with blocks that stay in the cache (two cores, bfloat16)."""


@contextmanager
def lean_head(*, only_log_probs: bool = False) -> Iterator[None]:
    """While open, TRL's fused head on a CPU computes the same with fewer passes through memory.

    Args:
        only_log_probs: nothing else is computed, whatever the head was asked for.
    """
    module: Any = trl_utils  # which has no setting for it
    own = module._ChunkedLogProbFunction
    module._ChunkedLogProbFunction = _Head(only_log_probs)
    try:
        yield
    finally:
        module._ChunkedLogProbFunction = own


@dataclass(frozen=True)
class _Head:
    """In place of TRL's function."""

    only_log_probs: bool

    def apply(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk_size: int,
        softcap: float | None,
        logit_scale: float,
        outputs: tuple[str, ...],
    ) -> tuple[Tensor | None, ...]:
        outputs = ("log_probs",) if self.only_log_probs else outputs
        plain = bias is None and softcap is None and temperature == logit_scale == 1.0
        if not plain or weight.requires_grad or "log_sum_sq_probs" in outputs:
            settings = (temperature, min(chunk_size, TILE_WORDS), softcap, logit_scale, outputs)
            return _apply(ChunkedLogProbFunction, hidden, weight, bias, targets, *settings)
        return _apply(LeanLogProbs, hidden, weight, targets, TILE_WORDS, outputs)


def _apply(function: type[torch.autograd.Function], *args: object) -> tuple[Tensor | None, ...]:
    results: tuple[Tensor | None, ...] = function.apply(*args)  # type: ignore[no-untyped-call]
    return results


class LeanLogProbs(torch.autograd.Function):
    """Log-probabilities of targets, and what TRL logs beside them.

    Gradients flow from the log-probabilities to the hidden states, not to the head.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        tile: int,
        outputs: tuple[str, ...],
    ) -> tuple[Tensor | None, ...]:
        """As `trl.kernels.chunked_logprob.ChunkedLogProbFunction`, all results ``[n]``.

        Args:
            ctx: PyTorch's.
            hidden: ``[n, d]``.
            weight: ``[v, d]``.
            targets: ``[n]``.
            tile: words at a time.
            outputs: which of ``entropy``, ``mean_logits`` and ``is_top1`` are wanted.

        Returns:
            log-probabilities, entropy, None, mean logits, whether the target is the top word.
        """
        ctx.set_materialize_grads(False)
        ctx.tile, ctx.type = tile, hidden.dtype
        if torch.is_autocast_enabled("cpu"):
            hidden = hidden.to(torch.get_autocast_dtype("cpu"))
        fold = _Fold(len(hidden), outputs)
        for _, logits, place, inside in _tiles(hidden, weight, targets, tile):
            fold.add(logits, place, inside)
        log_total = fold.top + fold.total.log()
        ctx.save_for_backward(hidden, weight, targets, log_total)
        logged = (fold.entropy(), None, fold.mean_logits(len(weight)), fold.is_top1())
        ctx.mark_non_differentiable(*(one for one in logged if one is not None))
        return fold.of_target - log_total, *logged

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: object) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, log_total = ctx.saved_tensors
        if gradient is None:
            return None, None, None, None, None
        gradient = gradient.float()
        # In float32, as TRL: what each tile adds would be rounded away.
        of_hidden = torch.zeros(hidden.shape)
        for words, logits, place, inside in _tiles(hidden, weight, targets, ctx.tile):
            of_logits = logits.sub_(log_total.unsqueeze(-1)).exp_().mul_(-gradient.unsqueeze(-1))
            of_logits[inside, place[inside]] += gradient[inside]
            of_hidden.addmm_(of_logits, words.float())
        return of_hidden.to(ctx.type), None, None, None, None


class _Fold:
    """What the tiles so far say about ``n`` tokens; every attribute is ``[n]``.

    Attributes:
        top: the largest logit.
        total: of the odds, ``exp(logit - top)``.
        of_target: the target's logit.
    """

    def __init__(self, n: int, outputs: tuple[str, ...]) -> None:
        self._outputs = outputs
        self.top = torch.full((n,), -torch.inf)
        self._top_before = self.top.clone()  # only of words before the target
        self.total, self.of_target, self._sum, self._weighted = (torch.zeros(n) for _ in range(4))

    def add(self, logits: Tensor, place: Tensor, inside: Tensor) -> None:
        """Add a tile ``[n, w]``, which is overwritten; places as from `_tiles`."""
        self.of_target[inside] = logits[inside, place[inside]]
        top = logits.amax(-1)
        if "is_top1" in self._outputs:
            # Whole tiles before the target count by their largest, its own up to its place.
            before = torch.where(place >= logits.shape[1], top, -torch.inf)
            later = torch.arange(logits.shape[1]) >= place[inside].unsqueeze(1)
            before[inside] = logits[inside].masked_fill_(later, -torch.inf).amax(-1)
            self._top_before = torch.maximum(self._top_before, before)
        if "mean_logits" in self._outputs:
            self._sum += logits.sum(-1)
        self._add_odds(logits, torch.maximum(self.top, top))

    def _add_odds(self, logits: Tensor, top: Tensor) -> None:
        rescale = (self.top - top).exp()
        shifted = logits.sub_(top.unsqueeze(-1))
        if "entropy" in self._outputs:
            odds = shifted.exp()
            # The sum of odds times shifted logits; what is in it was shifted by less.
            moved = torch.where(self.total > 0, self.total * (self.top - top), 0.0)
            self._weighted = (self._weighted + moved) * rescale
            self._weighted += torch.linalg.vecdot(odds, shifted)
        else:
            odds = shifted.exp_()
        self.total = self.total * rescale + odds.sum(-1)
        self.top = top

    def entropy(self) -> Tensor | None:
        """In nats."""
        wanted = "entropy" in self._outputs
        return self.total.log() - self._weighted / self.total if wanted else None

    def mean_logits(self, words: int) -> Tensor | None:
        """Over the vocabulary."""
        return self._sum / words if "mean_logits" in self._outputs else None

    def is_top1(self) -> Tensor | None:
        """Whether no word is more likely than the target, and none before it as likely."""
        wanted = "is_top1" in self._outputs
        return (
            (self.of_target >= self.top) & (self.of_target > self._top_before) if wanted else None
        )


def _tiles(
    hidden: Tensor, weight: Tensor, targets: Tensor, tile: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Words of the vocabulary, their logits, the targets' places among them, and who has one there.

    Of each tile: ``[w, d]``; ``[n, w]`` in float32, written over by the next tile's; ``[n]``,
    counted from the first word; the rows whose place is in the tile.
    """
    product = torch.empty(len(hidden), tile, dtype=hidden.dtype)
    logits = product if hidden.dtype == torch.float32 else torch.empty(len(hidden), tile)
    for start in range(0, len(weight), tile):
        words = weight[start : start + tile].to(hidden.dtype)
        width = len(words)
        torch.mm(hidden, words.t(), out=product[:, :width])
        if logits is not product:
            logits[:, :width] = product[:, :width]
        place = targets - start
        inside = ((place >= 0) & (place < width)).nonzero().squeeze(1)
        yield words, logits[:, :width], place, inside
