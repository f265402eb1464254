"""The head in few operations against TRL's own, on random input."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trl.kernels import ChunkedLogProbFunction
from trl.trainer import utils as trl_utils
from trl.trainer.utils import add_fused_lm_head

from rlrf4rec.alignment import lean_head as lean
from rlrf4rec.alignment.lean_head import LeanLogProbs, lean_head
from rlrf4rec.alignment.models import load_base_model

LOGGED = ("entropy", "mean_logits", "is_top1")
IDS = torch.arange(24).view(2, 12) * 7 % 256


@pytest.mark.parametrize("tile", [4, 7, 100], ids=lambda words: f"{words} words")
@pytest.mark.parametrize("outputs", [LOGGED, (), ("entropy",), ("is_top1",)], ids=str)
def test_equals_trls(tile: int, outputs: tuple[str, ...]) -> None:
    """Of 23 words, also where the last tile is smaller than the others."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(40, 5, generator=generator, requires_grad=True)
    # Small whole numbers, so that some words are equally likely.
    weight = torch.randint(-1, 2, (23, 5), generator=generator).float()
    targets = torch.randint(23, (40,), generator=generator)
    weights = torch.randn(40, generator=generator)
    ours = LeanLogProbs.apply(hidden, weight, targets, tile, outputs)  # type: ignore[no-untyped-call]
    theirs = _trls(hidden, weight, targets, outputs)
    assert [one is None for one in ours] == [one is None for one in theirs]
    for mine, one in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, one, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad((one[0] * weights).sum(), hidden)[0] for one in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_the_first_of_the_most_likely_words_counts() -> None:
    """Logits 1, 3, 3, 2, 3 in tiles of two words: a later word that is as likely does not."""
    hidden, weight = torch.ones(5, 1), torch.tensor([[1.0], [3.0], [3.0], [2.0], [3.0]])
    is_top1 = LeanLogProbs.apply(hidden, weight, torch.arange(5), 2, LOGGED)[4]  # type: ignore[no-untyped-call]
    assert is_top1.tolist() == [False, True, False, False, False]


def test_by_hand() -> None:
    """Logits 0 and ln 3: probabilities 1/4 and 3/4, entropy 0.5623, gradient ln(3)·(0 - 3/4)."""
    hidden = torch.ones(1, 1, requires_grad=True)
    weight = torch.tensor([[0.0], [1.0986123]])
    first = LeanLogProbs.apply(hidden, weight, torch.tensor([0]), 1, LOGGED)  # type: ignore[no-untyped-call]
    assert first[0].item() == pytest.approx(-1.3862944, abs=1e-6)
    assert first[1].item() == pytest.approx(0.5623351, abs=1e-6)
    assert first[3].item() == pytest.approx(0.5493061, abs=1e-6)
    (gradient,) = torch.autograd.grad(first[0].sum(), hidden)
    assert gradient.item() == pytest.approx(-0.8239592, abs=1e-6)


def _trls(hidden: Tensor, weight: Tensor, targets: Tensor, outputs: tuple[str, ...]) -> Any:
    return ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, 100, None, 1.0, outputs)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("autocast", [False, True])
def test_a_models_scores_and_gradients_are_the_same(base_model: Path, autocast: bool) -> None:
    """258 words in tiles of 100; in bfloat16 as near as it is exact."""
    tolerance = 2e-2 if autocast else 1e-5
    outputs = []
    for context in (lean_head(), lean_head(only_log_probs=True), nullcontext()):
        model = load_base_model(base_model, torch.float32)
        add_fused_lm_head(model, outputs=("log_probs", *LOGGED))
        model.requires_grad_(False)
        embedded = model.get_input_embeddings()(IDS).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast), context:
            one = model(inputs_embeds=embedded, labels=IDS, fused_lm_head=True)
        one.loss.backward()
        outputs.append((one, embedded.grad))
    (ours, ours_back), (bare, bare_back), (theirs, theirs_back) = outputs
    for name in ("loss", "log_probs", "entropy", "mean_logits"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)
    assert torch.equal(bare.log_probs, ours.log_probs)
    assert bare.entropy is bare.mean_logits is bare.is_top1 is None
    assert torch.equal(bare_back, ours_back)
    assert (ours_back - theirs_back).norm() < tolerance * theirs_back.norm()


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.7}, {"outputs": ("log_probs", "log_sum_sq_probs")}, {}], ids=str
)
def test_other_heads_are_trls_in_small_tiles(
    base_model: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """Other temperatures, other outputs, and a head that learns."""
    monkeypatch.setattr(lean, "TILE_WORDS", 100)
    model = load_base_model(base_model, torch.float32)
    add_fused_lm_head(model, **settings)
    whole = model(input_ids=IDS, labels=IDS, fused_lm_head=True)
    with lean_head():
        tiled = model(input_ids=IDS, labels=IDS, fused_lm_head=True)
    assert type(tiled.log_probs.grad_fn) is type(whole.log_probs.grad_fn)
    torch.testing.assert_close(tiled.log_probs, whole.log_probs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tiled.loss, whole.loss, rtol=1e-5, atol=1e-5)


def test_trls_function_is_its_own_again_afterwards() -> None:
    module: Any = trl_utils
    with pytest.raises(ZeroDivisionError), lean_head():
        assert module._ChunkedLogProbFunction is not ChunkedLogProbFunction
        raise ZeroDivisionError
    assert module._ChunkedLogProbFunction is ChunkedLogProbFunction
