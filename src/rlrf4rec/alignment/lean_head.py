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
    ) -> tuple[Tensor, Tensor | None, None, Tensor | None, Tensor | None]:
        """As `trl.kernels.chunked_logprob.ChunkedLogProbFunction`, all results ``[n]``.

        Args:
            ctx: PyTorch's.
            hidden: ``[n, d]``.
            weight: ``[v, d]``.
            targets: ``[n]``.
            tile: words at a time.
            outputs: which of ``entropy``, ``mean_logits`` and ``is_top1`` are wanted.

        Returns:
            log-probabilities, entropy, None, mean logits, whether no word is more likely and none
            before the target as likely.
        """
        ctx.set_materialize_grads(False)
        ctx.tile, ctx.type = tile, hidden.dtype
        if torch.is_autocast_enabled("cpu"):
            hidden = hidden.to(torch.get_autocast_dtype("cpu"))
        n = len(hidden)
        top = torch.full((n,), -torch.inf)
        top_before = top.clone()
        total, weighted, summed, of_target = (torch.zeros(n) for _ in range(4))
        for start, logits in _tiles(hidden, weight, tile):
            place, inside = _found(targets, start, logits.shape[1])
            of_target[inside] = logits[inside, place[inside]]
            tile_top = logits.amax(-1)
            if "is_top1" in outputs:
                # Whole tiles before the target count by their largest, its own up to its place.
                passed = torch.where(place >= logits.shape[1], tile_top, -torch.inf)
                columns = torch.arange(logits.shape[1])
                later = columns >= place[inside].unsqueeze(1)
                passed[inside] = logits[inside].masked_fill_(later, -torch.inf).amax(-1)
                top_before = torch.maximum(top_before, passed)
            if "mean_logits" in outputs:
                summed += logits.sum(-1)
            new_top = torch.maximum(top, tile_top)
            rescale = (top - new_top).exp()
            shifted = logits.sub_(new_top.unsqueeze(-1))
            if "entropy" in outputs:
                odds = shifted.exp()
                # Of the logits minus the largest so far, which grows.
                moved = torch.where(total > 0, total * (top - new_top), 0.0)
                weighted = (weighted + moved) * rescale + torch.linalg.vecdot(odds, shifted)
            else:
                odds = shifted.exp_()
            total = total * rescale + odds.sum(-1)
            top = new_top
        log_total = top + total.log()
        ctx.save_for_backward(hidden, weight, targets, log_total)
        entropy = mean_logits = is_top1 = None
        if "entropy" in outputs:
            entropy = total.log() - weighted / total
        if "mean_logits" in outputs:
            mean_logits = summed / len(weight)
        if "is_top1" in outputs:
            is_top1 = (of_target >= top) & (of_target > top_before)
        logged = [one for one in (entropy, mean_logits, is_top1) if one is not None]
        ctx.mark_non_differentiable(*logged)
        return of_target - log_total, entropy, None, mean_logits, is_top1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: object) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, log_total = ctx.saved_tensors
        if gradient is None:
            return None, None, None, None, None
        gradient = gradient.float()
        # In float32, as TRL: what each tile adds would be rounded away.
        of_hidden = torch.zeros(hidden.shape)
        for start, logits in _tiles(hidden, weight, ctx.tile):
            place, inside = _found(targets, start, logits.shape[1])
            of_logits = logits.sub_(log_total.unsqueeze(-1)).exp_().mul_(-gradient.unsqueeze(-1))
            of_logits[inside, place[inside]] += gradient[inside]
            of_hidden.addmm_(of_logits, weight[start : start + logits.shape[1]].float())
        return of_hidden.to(ctx.type), None, None, None, None


def _tiles(hidden: Tensor, weight: Tensor, tile: int) -> Iterator[tuple[int, Tensor]]:
    """The first word of each tile, and its logits ``[n, at most tile]`` in a float32 of their own.

    What they are written into is used again for the next tile.
    """
    product = torch.empty(len(hidden), tile, dtype=hidden.dtype)
    logits = product if hidden.dtype == torch.float32 else torch.empty(len(hidden), tile)
    for start in range(0, len(weight), tile):
        words = weight[start : start + tile].to(hidden.dtype)
        width = len(words)
        torch.mm(hidden, words.t(), out=product[:, :width])
        if logits is not product:
            logits[:, :width] = product[:, :width]
        yield start, logits[:, :width]


def _found(targets: Tensor, start: int, width: int) -> tuple[Tensor, Tensor]:
    """Places of all targets counted from a tile's start, and which of them are in it."""
    place = targets - start
    return place, ((place >= 0) & (place < width)).nonzero().squeeze(1)
