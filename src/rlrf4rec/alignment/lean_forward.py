"""What a forward pass does for nothing, left out: large blocks of logits, and casts to and fro."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from peft.helpers import disable_input_dtype_casting
from transformers import PreTrainedModel
from trl.trainer import utils as trl_utils

TILE_WORDS = 2048
"""Words of the vocabulary whose logits a CPU computes at a time.

TRL's head takes 32,768, right for a GPU. On a CPU some fifteen operations pass through each block
of logits, and one of 68 MB (520 tokens) is allocated anew and fetched from memory by each: 1 s for
the head of SmolLM2-135M, 0.1 s with blocks that stay in the cache (two cores, bfloat16)."""


@contextmanager
def lean_forward(model: PreTrainedModel) -> Iterator[None]:
    """While open, the model's fused head and its adapter compute the same and move less memory.

    Args:
        model: a causal language model with TRL's fused head.
    """
    tiles = _small_tiles() if model.device.type == "cpu" else nullcontext()
    with disable_input_dtype_casting(model, active=_casts_twice(model)), tiles:
        yield


def _casts_twice(model: PreTrainedModel) -> bool:
    """Whether PEFT casts its inputs to float32, its weights' type, and autocast casts them back."""
    # Checkpointed layers run again in the backward pass, after this, and must do the same then.
    return torch.is_autocast_enabled(model.device.type) and not model.is_gradient_checkpointing


@contextmanager
def _small_tiles() -> Iterator[None]:
    own = trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE  # TRL has no setting for it
    trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE = TILE_WORDS
    try:
        yield
    finally:
        trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE = own
