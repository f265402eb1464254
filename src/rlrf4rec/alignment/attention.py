"""Attention for packed rows on a CPU: a few batched products.

PyTorch's attention for CPUs is made for a causal mask; with a mask of one's own, in bfloat16, its
backward pass costs more than all other products of a small model together. Rows of some hundred
tokens are small enough to write all scores down: a row of 680 tokens, nine heads and 30 layers,
forward and backward, takes 0.3 instead of 1 to 2.6 seconds on two cores.

In a flat row (`packing.PackedBatch.plan_flat`) the stem attends to itself, and each prompt's own
tokens to the stem and to themselves; no score between two prompts is computed. A model that does
not change reads the stem once (`known_stem.KnownStem`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from rlrf4rec.alignment.known_modules import KnownModules
from rlrf4rec.alignment.scoring_plan import Branches, ScoringPlan

NAME = "rlrf4rec_batched"
"""Under which transformers finds it."""

MOST_SCORES = 2 * 1024 * 1024
"""Of a head and layer: all are kept for the backward pass, 1.2 GB at this number in a model of 135M
parameters."""

_branches: ContextVar[Branches | None] = ContextVar("branches", default=None)


def attends_in_batches(modules: KnownModules) -> bool:
    """Whether the model attends by batched products in rows that are not too long."""
    model = modules.model
    return (
        model.config.get_text_config()._attn_implementation == "sdpa"
        and model.device.type == "cpu"
        and not modules.is_checkpointed
    )


def runs_in_batches(modules: KnownModules, plan: ScoringPlan) -> bool:
    """Whether `batched_attention` runs this packed plan; only it knows a flat one's structure."""
    rows, _, width, keys = plan.attention_mask.shape
    stem = 0 if plan.branches is None else plan.branches.stem
    return attends_in_batches(modules) and rows * width * (stem + keys) <= MOST_SCORES


@contextmanager
def batched_attention(modules: KnownModules, plan: ScoringPlan) -> Iterator[Tensor]:
    """While open, the model attends by batched products, where these are faster.

    Args:
        modules: of a causal language model whose attention takes any mask (`find_obstacle`).
        plan: what it reads; a flat one only if `runs_in_batches`.

    Yields:
        The plan's mask as the model's attention takes it now.
    """
    model, mask = modules.model, plan.attention_mask
    if mask.dim() == 2:
        # Rows that are not packed keep the attention they have.
        yield mask
        return
    config = model.config.get_text_config()
    own = config._attn_implementation
    if own != "sdpa":
        # Eager attention adds the mask to its scores.
        yield _additive(mask, model.dtype)
        return
    if not runs_in_batches(modules, plan):
        yield mask
        return
    branches = plan.branches
    if branches is not None and branches.known is not None and branches.reads_stem:
        branches.known.read_anew(plan.input_ids[0, : branches.stem])
    config._attn_implementation = NAME
    token = _branches.set(branches)
    try:
        yield _additive(mask, model.dtype)
    finally:
        _branches.reset(token)
        config._attn_implementation = own


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill(~mask, torch.finfo(dtype).min)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers asks of an attention: ``[b, h, w, d]`` queries to ``[b, w, h, d]``."""
    branches = _branches.get()
    if attention_mask is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if branches is None:
        attended = _attend_batch(query, key, value, attention_mask, scale, dropout)
    else:
        attended = _attend_flat(module, query, key, value, attention_mask, scale, dropout, branches)
    return attended.transpose(1, 2).contiguous(), None


def _attend_batch(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, dropout: float
) -> Tensor:
    """``[b, h, w, d]`` queries on ``[b, g, k, d]`` keys; ``[b, 1, w, m]`` masks the last ``m``.

    Heads that share keys are laid one after another, so that no key is copied for each of them.
    """
    batch, heads, width, size = query.shape
    groups = heads // key.shape[1]
    grouped = (query * scale).reshape(batch, key.shape[1], groups * width, size)
    scores = torch.matmul(grouped, key.transpose(-2, -1))
    weights: Tensor = _MaskedSoftmax.apply(scores, mask)  # type: ignore[no-untyped-call]
    weights = torch.dropout(weights, dropout, train=dropout > 0)
    return torch.matmul(weights, value).view(query.shape)


class _MaskedSoftmax(torch.autograd.Function):
    """Softmax over the last axis in the scores' own place: memory is what attention waits for."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, mask: Tensor) -> Tensor:
        """Scores ``[b, g, n * w, k]``; the mask ``[b, 1, w, m]`` is added to the last ``m``."""
        of_heads = scores.view(*scores.shape[:2], -1, mask.shape[-2], scores.shape[-1])
        of_heads[..., -mask.shape[-1] :].add_(mask.unsqueeze(-3))
        torch.softmax(scores, -1, out=scores)
        ctx.mark_dirty(scores)
        ctx.save_for_backward(scores)
        return scores

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        return torch._softmax_backward_data(gradient, weights, -1, weights.dtype), None


def _attend_causal(
    query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float
) -> Tensor:
    """``[b, h, w, d]`` queries on ``[b, g, w, d]`` keys."""
    width = query.shape[2]
    if width * width > MOST_SCORES // 4:
        # Keeps no scores; its backward pass is slower.
        return scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, dropout_p=dropout, enable_gqa=True
        )
    behind = torch.ones(width, width, dtype=torch.bool).tril()
    return _attend_batch(query, key, value, _additive(behind, query.dtype), scale, dropout)


def _attend_flat(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scale: float,
    dropout: float,
    branches: Branches,
) -> Tensor:
    """``[1, h, w, d]`` queries on ``[1, g, w, d]`` keys; the mask is ``[r, 1, v, v]``."""
    rows, width = len(branches.lengths), max(branches.lengths)
    stem = branches.stem if branches.reads_stem else 0

    def own(part: Tensor) -> Tensor:
        # Slices and not an index: the gradient of an index is scattered token by token.
        pieces = torch.split(part[:, :, stem:], list(branches.lengths), dim=2)
        return torch.cat([pad(piece, (0, 0, 0, width - piece.shape[2])) for piece in pieces])

    stem_key, stem_value = _stem(module, key, value, branches)
    rest = _attend_batch(
        own(query),
        torch.cat([stem_key.expand(rows, -1, -1, -1), own(key)], dim=2),
        torch.cat([stem_value.expand(rows, -1, -1, -1), own(value)], dim=2),
        mask,
        scale,
        dropout,
    )
    attended = [row[:, :length] for row, length in zip(rest, branches.lengths, strict=True)]
    if branches.reads_stem:
        first = _attend_causal(query[:, :, :stem], stem_key, stem_value, scale, dropout)
        attended.insert(0, first[0])
    return torch.cat(attended, dim=1).unsqueeze(0)


def _stem(
    module: nn.Module, key: Tensor, value: Tensor, branches: Branches
) -> tuple[Tensor, Tensor]:
    """Its keys and values, ``[1, g, s, d]``."""
    if branches.reads_stem:
        stem_key, stem_value = (part[:, :, : branches.stem] for part in (key, value))
        if branches.known is not None:
            branches.known.keep(module, stem_key, stem_value)
        return stem_key, stem_value
    assert branches.known is not None
    return branches.known.of(module, branches.stem)


AttentionInterface.register(NAME, _attend)
