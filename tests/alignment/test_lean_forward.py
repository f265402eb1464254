"""Less memory is moved; the numbers stay."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from trl.trainer.utils import add_fused_lm_head

from rlrf4rec.alignment.known_modules import KnownModules
from rlrf4rec.alignment.lean_forward import lean_forward
from rlrf4rec.alignment.lean_head import lean_head
from rlrf4rec.alignment.models import load_base_model
from rlrf4rec.alignment.shared_prompt import causal_model

Gradients = tuple[dict[str, Tensor], Counter[str]]

IDS = torch.arange(24).view(2, 12) * 7 % 256


def _adapted(base_model: Path, dtype: torch.dtype, *, checkpointing: bool = False) -> PeftModel:
    torch.manual_seed(0)
    model = load_base_model(base_model, dtype)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    adapter = LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        init_lora_weights=False,
    )
    adapted = get_peft_model(model, adapter)
    assert isinstance(adapted, PeftModel)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if checkpointing:
        adapted.enable_input_require_grads()
        adapted.gradient_checkpointing_enable({"use_reentrant": False})
    return adapted.train()


def _gradients(model: PeftModel, context: AbstractContextManager[None]) -> Gradients:
    """Of the trained weights, and how often which operation ran."""
    bfloat16 = model.dtype == torch.bfloat16
    with profile(activities=[ProfilerActivity.CPU]) as watch:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16), context:
            outputs = model(input_ids=IDS, labels=IDS, fused_lm_head=True)
        outputs.loss.backward()
    named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(named) == 2 * 2 * 7  # two factors, two layers, seven matrices
    return named, Counter({event.key: event.count for event in watch.key_averages()})


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)], ids=str
)
def test_gradients_are_the_same(base_model: Path, dtype: torch.dtype, tolerance: float) -> None:
    """With an operation fewer for each of 14 matrices, which bfloat16 rounds once less."""
    model = _adapted(base_model, dtype)
    ours, our_calls = _gradients(model, lean_forward(KnownModules(causal_model(model))))
    theirs, _ = _gradients(_adapted(base_model, dtype), nullcontext())
    _, their_calls = _gradients(_adapted(base_model, dtype), lean_head())
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() < tolerance * gradient.norm(), name
    assert our_calls["aten::addmm"] > 0 == their_calls["aten::addmm"]
    # Inputs up and down, and back again but for the first layer's three (embeddings are fixed).
    fewer_casts = 2 * 14 + 2 * 11 if dtype == torch.bfloat16 else 0
    assert their_calls["aten::_to_copy"] - our_calls["aten::_to_copy"] == fewer_casts


def test_types_may_differ_without_autocast(base_model: Path) -> None:
    """A bfloat16 model with a float32 adapter, as a reference is read before training."""
    model = _adapted(base_model, torch.bfloat16).eval()
    plain = model(input_ids=IDS, labels=IDS, fused_lm_head=True)
    with lean_forward(KnownModules(causal_model(model))):
        lean_outputs = model(input_ids=IDS, labels=IDS, fused_lm_head=True)
    torch.testing.assert_close(lean_outputs.loss, plain.loss, rtol=1e-2, atol=1e-2)


def test_checkpointed_layers_do_the_same_twice(base_model: Path) -> None:
    """To the last bit: they run once inside the context, once outside."""
    model = _adapted(base_model, torch.bfloat16, checkpointing=True)
    ours, our_calls = _gradients(model, lean_forward(KnownModules(causal_model(model))))
    plain = _adapted(base_model, torch.bfloat16, checkpointing=True)
    theirs, their_calls = _gradients(plain, lean_head())
    assert all(torch.equal(ours[name], gradient) for name, gradient in theirs.items())
    assert our_calls["aten::_to_copy"] == their_calls["aten::_to_copy"]


def test_an_adapter_is_pefts_own_again_afterwards(base_model: Path) -> None:
    model = _adapted(base_model, torch.float32)
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    with pytest.raises(ZeroDivisionError), lean_forward(KnownModules(causal_model(model))):
        assert all(layer.lora_variant for layer in layers)
        raise ZeroDivisionError
    assert not any(layer.lora_variant for layer in layers)
