"""Attention by batched products against PyTorch's own, on random input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rlrf4rec.alignment import attention
from rlrf4rec.alignment.attention import NAME, batched_attention
from rlrf4rec.alignment.known_modules import KnownModules
from rlrf4rec.alignment.known_stem import KnownStem
from rlrf4rec.alignment.models import load_base_model
from rlrf4rec.alignment.packing import visibility
from rlrf4rec.alignment.scoring_plan import Branches, ScoringPlan

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
    _assert_pytorchs(ours, parts, mask, scaling)


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("most_scores", [36, 35], ids=["its scores are kept", "a long stem"])
def test_a_flat_row_equals_pytorchs_with_a_mask_of_all_tokens(
    scaling: float | None, most_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stem of three tokens, then prompts with two answers: four tokens and two."""
    monkeypatch.setattr(attention, "MOST_SCORES", most_scores)
    generator = torch.Generator().manual_seed(0)
    parts = tuple(
        torch.randn(1, heads, 9, 4, generator=generator, requires_grad=True) for heads in (6, 2, 2)
    )
    segments = torch.tensor([[0, 1, 1, 2], [0, 1, -1, -1]])
    own = visibility(segments)
    branches = Branches(stem=3, lengths=(4, 2))
    whole = torch.zeros(9, 9, dtype=torch.bool)
    whole[:, :3] = True
    whole[:3, :3] = torch.ones(3, 3).tril().bool()
    whole[3:7, 3:7] = own[0, 0]
    whole[7:, 7:] = own[1, 0, :2, :2]
    ours = _attend_flat(nn.Module(), parts, own, branches, scaling)
    _assert_pytorchs(ours, parts, whole, scaling)


def test_a_known_stem_gives_the_same() -> None:
    """Three tokens of a stem are kept; then two of them are left out."""
    generator = torch.Generator().manual_seed(0)
    parts = tuple(torch.randn(1, heads, 8, 4, generator=generator) for heads in (6, 2, 2))
    own = visibility(torch.tensor([[0, 1, 1], [0, 1, -1]]))
    layer, known = nn.Module(), KnownStem()
    known.read_anew(torch.tensor([7, 8, 9]))
    whole = _attend_flat(layer, parts, own, Branches(3, (3, 2), known), None)
    behind = tuple(part[:, :, 3:] for part in parts)
    rest = _attend_flat(layer, behind, own, Branches(3, (3, 2), known, reads_stem=False), None)
    torch.testing.assert_close(rest, whole[:, 3:])
    # Of two tokens, as if the stem had been these.
    shorter = tuple(torch.cat([part[:, :, :2], part[:, :, 3:]], dim=2) for part in parts)
    expected = _attend_flat(layer, shorter, own, Branches(2, (3, 2)), None)
    two = _attend_flat(layer, behind, own, Branches(2, (3, 2), known, reads_stem=False), None)
    torch.testing.assert_close(two, expected[:, 2:])


def _attend_flat(
    layer: nn.Module,
    parts: tuple[Tensor, ...],
    own: Tensor,
    branches: Branches,
    scaling: float | None,
) -> Tensor:
    additive = torch.zeros(own.shape).masked_fill(~own, torch.finfo(torch.float32).min)
    token = attention._branches.set(branches)
    try:
        return attention._attend(layer, *parts, additive, scaling=scaling)[0]
    finally:
        attention._branches.reset(token)


def _assert_pytorchs(
    ours: Tensor, parts: tuple[Tensor, ...], mask: Tensor, scaling: float | None
) -> None:
    query, key, value = parts
    theirs = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True
    ).transpose(1, 2)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((output * weights).sum(), parts) for output in (ours, theirs)]
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*gradients)


def _plan(mask: Tensor) -> ScoringPlan:
    nothing = torch.zeros(0)
    return ScoringPlan(nothing, mask, None, nothing, nothing, nothing, nothing)


def test_only_while_open_and_only_for_packed_rows(base_model: Path) -> None:
    model = load_base_model(base_model, torch.float32)
    modules = KnownModules(model)
    with batched_attention(modules, _plan(visibility(SEGMENTS))) as mask:
        assert model.config._attn_implementation == NAME
        assert mask.dtype == torch.float32
    assert model.config._attn_implementation == "sdpa"
    plain = torch.ones(2, 8)
    with batched_attention(modules, _plan(plain)) as mask:
        assert model.config._attn_implementation == "sdpa"
        assert mask is plain


def test_long_rows_and_checkpointed_models_keep_their_own(
    base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_base_model(base_model, torch.float32)
    modules = KnownModules(model)
    packed = visibility(SEGMENTS)
    with monkeypatch.context() as patch:
        patch.setattr(attention, "MOST_SCORES", packed.numel() - 1)
        with batched_attention(modules, _plan(packed)) as mask:
            assert mask is packed
    assert attention.runs_in_batches(modules, _plan(packed))
    model.gradient_checkpointing_enable()
    assert not attention.runs_in_batches(modules, _plan(packed))
    with batched_attention(modules, _plan(packed)) as mask:
        assert mask is packed
        assert model.config._attn_implementation == "sdpa"
