"""Attention for packed rows on a CPU: three batched products.

PyTorch's attention for CPUs is made for a causal mask; with a mask of one's own, in bfloat16, its
backward pass costs more than all other products of a small model together. Rows of some hundred
tokens are small enough to write all scores down: a row of 680 tokens, nine heads and 30 layers,
forward and backward, takes 0.3 instead of 1 to 2.6 seconds on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

NAME = "rlrf4rec_batched"
"""Under which transformers finds it."""

LONGEST_ROW = 1024
"""Tokens of the longest row it is used for: all scores of all layers are kept for the backward
pass, 0.6 GB at this length in a model of 135M parameters."""


@contextmanager
def batched_attention(model: PreTrainedModel, mask: Tensor) -> Iterator[Tensor]:
    """While open, the model attends by batched products, where these are faster.

    Args:
        model: a causal language model whose attention takes any mask (`find_obstacle`).
        mask: ``[b, 1, w, w]``, boolean, true where a query (third axis) may look at a key; or
            ``[b, w]`` for rows that are not packed, whose attention stays as it is.

    Yields:
        The mask as the model's attention takes it now.
    """
    if mask.dim() == 2:
        yield mask
        return
    config = model.config.get_text_config()
    own = config._attn_implementation
    if own != "sdpa":
        # Eager attention adds the mask to its scores.
        yield _additive(mask, model.dtype)
        return
    if mask.device.type != "cpu" or mask.shape[-1] > LONGEST_ROW or model.is_gradient_checkpointing:
        yield mask
        return
    config._attn_implementation = NAME
    try:
        yield _additive(mask, model.dtype)
    finally:
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
    """What transformers asks of an attention: ``[b, h, w, d]`` to ``[b, w, h, d]``."""
    if attention_mask is None or dropout:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    batch, heads, width, dim = query.shape
    groups = heads // key.shape[1]
    keys, values = (
        repeat_kv(part, groups).reshape(batch * heads, -1, dim) for part in (key, value)
    )
    mask = attention_mask.expand(batch, heads, width, -1).reshape(batch * heads, width, -1)
    scores = torch.baddbmm(
        mask,
        query.reshape(batch * heads, width, dim),
        keys.transpose(1, 2),
        alpha=dim**-0.5 if scaling is None else scaling,
    )
    attended = torch.bmm(scores.softmax(-1), values).view(batch, heads, width, -1)
    return attended.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attend)
