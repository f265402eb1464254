"""Adapters are left out and exchanged as PEFT does it, without looking through the whole model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from trl.trainer.utils import use_adapter

from rlrf4rec.alignment.known_modules import KnownModules
from rlrf4rec.alignment.models import load_base_model
from rlrf4rec.alignment.shared_prompt import causal_model

IDS = torch.arange(12).view(1, 12) * 7 % 256


def _adapter(**settings: object) -> LoraConfig:
    return LoraConfig(
        r=4,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        init_lora_weights=False,
        **settings,
    )


@pytest.fixture
def adapted(base_model: Path) -> PeftModel:
    """With the adapter that is trained, and a frozen one named "ref" as TRL adds it."""
    torch.manual_seed(0)
    model = get_peft_model(load_base_model(base_model, torch.float32), _adapter())
    assert isinstance(model, PeftModel)
    model.add_adapter("ref", _adapter())
    return model


@torch.no_grad()
def _logits(model: PeftModel) -> Tensor:
    logits: Tensor = model(input_ids=IDS).logits
    return logits


def _state(model: PeftModel) -> object:
    """What PEFT says of the model, and which weights are to be trained."""
    trained = [name for name, one in model.named_parameters() if one.requires_grad]
    return model.get_model_status(), model.active_adapter, trained


@pytest.mark.parametrize("name", [None, "ref"])
def test_switches_are_pefts(adapted: PeftModel, name: str | None) -> None:
    own, before = _logits(adapted), _state(adapted)
    with use_adapter(adapted, name):
        theirs = _logits(adapted)
    assert not torch.allclose(own, theirs)
    with KnownModules(causal_model(adapted)).quick_switches(adapted):
        with use_adapter(adapted, name):
            assert torch.equal(_logits(adapted), theirs)
            assert adapted.get_model_status().enabled is (name is not None)
            assert adapted.get_model_status().active_adapters == [name or "default"]
        assert torch.equal(_logits(adapted), own)
    assert _state(adapted) == before
    assert not {"disable_adapter", "set_adapter"} & vars(adapted).keys()


def test_switches_come_back_after_an_error(adapted: PeftModel) -> None:
    own, before = _logits(adapted), _state(adapted)
    modules = KnownModules(causal_model(adapted))
    with (
        pytest.raises(ZeroDivisionError),
        modules.quick_switches(adapted),
        use_adapter(adapted, None),
    ):
        raise ZeroDivisionError
    assert torch.equal(_logits(adapted), own)
    assert _state(adapted) == before


def test_an_adapter_of_other_parts_keeps_pefts_switches(base_model: Path) -> None:
    """Modules that are trained in whole are exchanged by PEFT alone."""
    whole = _adapter(modules_to_save=["lm_head"])
    adapted = get_peft_model(load_base_model(base_model, torch.float32), whole)
    assert isinstance(adapted, PeftModel)
    with KnownModules(causal_model(adapted)).quick_switches(adapted):
        assert "disable_adapter" not in vars(adapted)


def test_a_model_without_an_adapter_is_left_alone(base_model: Path) -> None:
    model = load_base_model(base_model, torch.float32)
    modules = KnownModules(model)
    assert modules.adapters == []
    with modules.quick_switches(model):
        assert "disable_adapter" not in vars(model)


def test_layers_may_be_checkpointed_later(adapted: PeftModel) -> None:
    model = causal_model(adapted)
    modules = KnownModules(model)
    # Seven products in each of two layers.
    assert len(modules.adapters) == 14
    assert all(isinstance(layer, BaseTunerLayer) for layer in modules.adapters)
    assert not modules.is_checkpointed
    model.gradient_checkpointing_enable()
    assert modules.is_checkpointed
    model.gradient_checkpointing_disable()
    assert not modules.is_checkpointed
