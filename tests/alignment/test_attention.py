"""Attention by batched products against PyTorch's own, on random input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rlrf4rec.alignment import attention
from rlrf4rec.alignment.attention import NAME, batched_attention
from rlrf4rec.alignment.models import load_base_model
from rlrf4rec.alignment.packing import visibility

SEGMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 2, -1, -1, -1, -1]])


@pytest.mark.parametrize("key_heads", [6, 2])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_equals_pytorchs_forward_and_backward(key_heads: int, scaling: float | None) -> None:
    """Also where several query heads share a key head."""
    generator = torch.Generator().manual_seed(0)

    def random(heads: int) -> Tensor:
        return torch.randn(2, heads, 8, 4, generator=generator, requires_grad=True)

    parts = (random(6), random(key_heads), random(key_heads))
    mask = visibility(SEGMENTS)
    additive = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    ours, _ = attention._attend(nn.Module(), *parts, additive, scaling=scaling)
    theirs = scaled_dot_product_attention(
        *parts, attn_mask=mask, scale=scaling, enable_gqa=True
    ).transpose(1, 2)
    weights = torch.randn(ours.shape, generator=generator)
    gradients = [torch.autograd.grad((output * weights).sum(), parts) for output in (ours, theirs)]
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*gradients)


def test_only_while_open_and_only_for_packed_rows(base_model: Path) -> None:
    model = load_base_model(base_model, torch.float32)
    with batched_attention(model, visibility(SEGMENTS)) as mask:
        assert model.config._attn_implementation == NAME
        assert mask.dtype == torch.float32
    assert model.config._attn_implementation == "sdpa"
    plain = torch.ones(2, 8)
    with batched_attention(model, plain) as mask:
        assert model.config._attn_implementation == "sdpa"
        assert mask is plain


def test_long_rows_and_checkpointed_models_keep_their_own(
    base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_base_model(base_model, torch.float32)
    packed = visibility(SEGMENTS)
    with monkeypatch.context() as patch:
        patch.setattr(attention, "LONGEST_ROW", 7)
        with batched_attention(model, packed) as mask:
            assert mask is packed
    model.gradient_checkpointing_enable()
    with batched_attention(model, packed) as mask:
        assert mask is packed
        assert model.config._attn_implementation == "sdpa"
