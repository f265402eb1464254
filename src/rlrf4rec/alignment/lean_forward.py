"""What a forward pass does for nothing, left out: casts to and fro, sums, and much of the head.

An adapter's casts and sums stay where layers are checkpointed: those run again in the backward
pass, when the context is closed, and must do the same twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from peft.tuners.lora.layer import Linear, LoraLayer, LoraVariant
from torch import Tensor, nn

from rlrf4rec.alignment.known_modules import KnownModules, set_in_all
from rlrf4rec.alignment.lean_head import lean_head


@contextmanager
def lean_forward(modules: KnownModules, *, only_log_probs: bool = False) -> Iterator[None]:
    """While open, the model's fused head and its adapter compute the same and move less memory.

    Args:
        modules: of a causal language model with TRL's fused head.
        only_log_probs: whether nothing else of the head's outputs will be read.
    """
    device = modules.model.device.type
    with ExitStack() as stack:
        if device == "cpu":
            stack.enter_context(lean_head(only_log_probs=only_log_probs))
        if not modules.is_checkpointed:
            stack.enter_context(_single_sums(modules))
            if torch.is_autocast_enabled(device):
                # PEFT casts its inputs to float32, its weights' type, and autocast casts them back.
                # Its own `disable_input_dtype_casting` looks for the layers each time.
                as_they_are = set_in_all(modules.adapters, "cast_input_dtype_enabled", False)
                stack.enter_context(as_they_are)
        yield


class _SingleSum(LoraVariant):
    """Plain LoRA, whose product is scaled and added to the base layer's result by one operation.

    PEFT computes ``result + product * scaling``: two more passes through memory, one more back.
    """

    @staticmethod
    def forward(
        module: LoraLayer, active_adapter: str, x: Tensor, result: Tensor, **kwargs: object
    ) -> Tensor:
        up = module.lora_B[active_adapter]
        assert isinstance(up, nn.Linear)
        down = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x))
        # PEFT casts the sum back to the base layer's type.
        summed = torch.addmm(
            result.flatten(0, -2).to(down.dtype),
            down.flatten(0, -2),
            up.weight.t(),
            alpha=module.scaling[active_adapter],
        )
        return summed.view(result.shape)


@contextmanager
def _single_sums(modules: KnownModules) -> Iterator[None]:
    # A variant is where PEFT lets an adapter compute otherwise.
    plain = [
        (layer, name)
        for layer in modules.adapters
        if isinstance(layer, Linear)
        for name, up in layer.lora_B.items()
        if name not in layer.lora_variant and up.bias is None
    ]
    for layer, name in plain:
        layer.lora_variant[name] = _SingleSum()
    try:
        yield
    finally:
        for layer, name in plain:
            del layer.lora_variant[name]
