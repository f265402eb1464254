"""What a walk through a model's modules finds, found once.

A language model with an adapter has thousands of modules. Python takes some milliseconds to walk
through them, and PEFT and transformers do so again and again in a step: an adapter left out for the
reference takes them 50 ms, where the step of a small model keeps a GPU busy for 80.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel


class KnownModules:
    """Of one causal language model, to which none are added from now on.

    Attributes:
        model: with an adapter's layers in it or without; not PEFT's wrapper.
        adapters: the layers that hold LoRA.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        modules = list(model.modules())
        self.adapters: list[LoraLayer] = [one for one in modules if isinstance(one, LoraLayer)]
        self._checkpointing = [one for one in modules if hasattr(one, "gradient_checkpointing")]
        self._switchable = all(
            _has_switches(one)
            for one in modules
            if isinstance(one, (BaseTunerLayer, AuxiliaryTrainingWrapper))
        )

    @property
    def is_checkpointed(self) -> bool:
        """Whether layers are computed again in the backward pass."""
        return any(one.gradient_checkpointing for one in self._checkpointing)

    def quick_switches(self, wrapper: nn.Module | None) -> AbstractContextManager[None]:
        """While open, ``wrapper`` leaves out and exchanges adapters in their layers alone.

        For passes without gradients: which weights are to be trained stays as it is.

        Args:
            wrapper: PEFT's, of this model; anything else is left as it is.
        """
        if not isinstance(wrapper, PeftModel) or not self._switchable:
            return nullcontext()
        return _quick_switches(wrapper, self.adapters)


@contextmanager
def set_in_all(layers: list[LoraLayer], name: str, value: bool) -> Iterator[None]:
    """While open, an attribute of each layer has this value."""
    before = [getattr(layer, name) for layer in layers]
    for layer in layers:
        setattr(layer, name, value)
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            setattr(layer, name, own)


def _has_switches(layer: nn.Module) -> bool:
    # PEFT has public ones for reading only.
    return isinstance(layer, LoraLayer) and all(
        hasattr(layer, name) for name in ("_disable_adapters", "_active_adapter")
    )


@contextmanager
def _quick_switches(wrapper: PeftModel, layers: list[LoraLayer]) -> Iterator[None]:
    # PEFT's own methods also look whether all layers agree, and go through all weights.
    def disable_adapter() -> AbstractContextManager[None]:
        return set_in_all(layers, "_disable_adapters", True)

    def set_adapter(adapter_name: str) -> None:
        for layer in layers:
            layer._active_adapter = [adapter_name]
        wrapper.active_adapter = adapter_name
        wrapper.base_model.active_adapter = adapter_name  # type: ignore[assignment]

    methods: dict[str, Callable[..., object]] = {
        "disable_adapter": disable_adapter,
        "set_adapter": set_adapter,
    }
    for name, method in methods.items():
        setattr(wrapper, name, method)
    try:
        yield
    finally:
        for name in methods:
            delattr(wrapper, name)
