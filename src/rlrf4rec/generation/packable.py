"""Which language models can read several answers to one prompt in one row."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ATTENTION_WITH_FREE_MASKS = ("sdpa", "eager")
_ATTENTION_LAYERS = {"full_attention", "sliding_attention"}


def find_obstacle(model: PreTrainedModel, length: int) -> str | None:
    """Why this model cannot read rows of `length` tokens packed, or None if it can.

    Packing needs attention that takes any mask, positions that can be given, and no state that runs
    from token to token (as in Mamba). A sliding window is no obstacle while a row fits into it.
    """
    config = model.config.get_text_config()
    implementation = config._attn_implementation
    if implementation not in _ATTENTION_WITH_FREE_MASKS:
        return f"{implementation!r} attention takes no mask of its own; 'sdpa' does"
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    if getattr(model, "_is_stateful", False) or not layers <= _ATTENTION_LAYERS:
        return f"{config.model_type} has layers other than attention"
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        return f"{config.model_type} takes no position_ids"
    if getattr(config, "alibi", False):
        return f"{config.model_type} has positions in its attention (ALiBi)"
    for name in ("sliding_window", "attention_chunk_size"):
        window = getattr(config, name, None)
        if window is not None and window < length:
            return f"rows of {length} tokens exceed {name} {window}"
    return None
