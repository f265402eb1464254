"""How many pairs a GPU reads at once while it tunes.

A small model's step is made of thousands of short kernels, so that reading a step's pairs one after
another costs almost as many times as much. What is read together must leave its activations in
memory until the backward pass; where not even one prompt's pairs fit, each layer's are computed
again instead (gradient checkpointing), a third more work.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig

from rlrf4rec.alignment.batches import largest_part

_BYTES_PER_UNIT = 68
"""Of activations, for each token, layer and unit of the hidden state: 34 in a plain layer of 16-bit
numbers whose attention keeps no scores (arXiv 2205.05198, equation 2), and as much again for the
adapters beside its products and what is kept in 32 bits."""

_BYTES_PER_LOGIT = 12
"""A logit, its log-softmax and its gradient, in 32 bits."""

_SHARE = 0.3
"""Of the memory: recorded passes (`recorded_passes`) keep as much again for themselves, and others
may compute there."""


@dataclass(frozen=True)
class MicroBatch:
    """What is read together.

    Attributes:
        pairs: whose rows are read in one forward and backward pass.
        checkpointing: whether activations are computed again in the backward pass.
    """

    pairs: int
    checkpointing: bool


def plan_micro_batch(
    pairs_a_step: int, together: int, floor: int, pair_bytes: int, room: int
) -> MicroBatch:
    """The most pairs of a step that fit, a divisor of the step.

    Args:
        pairs_a_step: of an optimizer step.
        together: pairs of one prompt that share a row; divides `pairs_a_step`.
        floor: pairs that are read together, with checkpointing, where none fit.
        pair_bytes: of the longest pair.
        room: bytes.

    Example:
        >>> plan_micro_batch(16, 1, 2, pair_bytes=3, room=30)
        MicroBatch(pairs=8, checkpointing=False)
        >>> plan_micro_batch(16, 1, 2, pair_bytes=31, room=30)
        MicroBatch(pairs=2, checkpointing=True)
    """
    fitting = largest_part(pairs_a_step, together, room // pair_bytes)
    if fitting is None:
        return MicroBatch(max(together, floor), checkpointing=True)
    return MicroBatch(fitting, checkpointing=False)


def pair_bytes(model_folder: Path, prompt_tokens: int, answer_tokens: int) -> int:
    """An upper estimate of what a pair's rows leave in memory until the backward pass.

    Args:
        model_folder: Hugging Face layout.
        prompt_tokens: of the longest prompt.
        answer_tokens: of both answers of the longest pair.
    """
    config = AutoConfig.from_pretrained(model_folder, local_files_only=True).get_text_config()
    token = int(config.num_hidden_layers) * int(config.hidden_size) * _BYTES_PER_UNIT
    scores = int(config.vocab_size) * _BYTES_PER_LOGIT
    return (prompt_tokens + answer_tokens) * token + answer_tokens * scores


def gpu_room(model_folder: Path) -> int:
    """Bytes of the GPU that activations may take: a share of its memory, less the weights."""
    weights = sum(path.stat().st_size for path in model_folder.glob("*.safetensors"))
    total = int(torch.cuda.get_device_properties(0).total_memory)
    # As it is built, not as it is filled at the moment: a tuning goes on as it began.
    return int(total * _SHARE) - weights


def release_models() -> None:
    """Give back what nobody holds: a trainer stands in reference cycles, which keep its model."""
    gc.collect()
    torch.cuda.empty_cache()  # does nothing without CUDA
