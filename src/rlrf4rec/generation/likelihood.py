"""How likely an LLM finds given answers to a prompt, without sampling any.

The prompt is read once and its keys and values are kept. Its answers are then read side by side in
rows of at most `ROW_TOKENS` tokens:

    (prompt) answer · answer · answer

The attention mask hides the answers from each other and each answer's positions start where the
prompt ends, so a token sees what it would see alone after the prompt. An answer's last token
predicts nothing and is left out; logits are computed for the answers only.

A call computes one prompt, in rows that depend on its own answers and on nothing else: whoever else
is scored in a run, and in which order, the numbers are the same.

Shape legend: ``a`` answers, ``p`` tokens of the prompt, ``q`` answer tokens in a row.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from rlrf4rec.errors import ConfigError
from rlrf4rec.generation.packable import find_obstacle
from rlrf4rec.records import FloatArray

# Fewer calls with longer rows, but more masked attention and a larger block of logits; 256 was the
# quickest on a CPU.
ROW_TOKENS = 256


class LikelihoodScorer:
    """Scores answers with transformers.

    Args:
        folder: a Hugging Face model folder.
        dtype: ``float32`` or ``bfloat16``; log-probabilities are made in float32 in both.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, folder: Path, dtype: str, device: str) -> None:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True
        )
        # `Any`: the auto classes declare a union of models without a common call.
        self._model = cast(Any, model).to(device).eval()

    def score(self, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]]) -> FloatArray:
        """``[a]``, each answer's log-probability after the prompt, in nats.

        Args:
            prompt_ids: at least one token.
            answers: token ids, at least one token each.

        Raises:
            ValueError: the prompt or an answer is empty.
            ConfigError: the LLM cannot read answers side by side, see `find_obstacle`.
        """
        if not prompt_ids or not all(answers):
            raise ValueError("the prompt and every answer need at least one token")
        if not answers:
            return np.zeros(0)
        self._require_packable(len(prompt_ids) + max(map(len, answers)))
        with torch.inference_mode():
            output = self._model(
                input_ids=self._tensor([prompt_ids]), use_cache=True, logits_to_keep=1
            )
            first = output.logits[0, -1].float().log_softmax(dim=-1)
            scores = first[self._tensor([answer[0] for answer in answers])].double().cpu().numpy()
            for row in _rows(answers):
                targets = self._row_log_probabilities(
                    output.past_key_values, len(prompt_ids), [answers[place] for place in row]
                )
                owners = [place for place in row for _ in answers[place][1:]]
                np.add.at(scores, owners, targets)
        return cast(FloatArray, scores)

    def _row_log_probabilities(
        self, cache: object, prompt_length: int, answers: list[Sequence[int]]
    ) -> FloatArray:
        """Log-probabilities of a row's tokens from each answer's second on, ``[q]``."""
        inputs = [token for answer in answers for token in answer[:-1]]
        targets = [token for answer in answers for token in answer[1:]]
        positions = [prompt_length + step for answer in answers for step in range(len(answer) - 1)]
        owners = [number for number, answer in enumerate(answers) for _ in answer[1:]]
        logits = self._model(
            input_ids=self._tensor([inputs]),
            position_ids=self._tensor([positions]),
            attention_mask=self._mask(prompt_length, self._tensor(owners)),
            # A call appends to the cache that it is given.
            past_key_values=copy.deepcopy(cache),
            use_cache=True,
        ).logits[0]
        chosen = logits.float().log_softmax(dim=-1).gather(-1, self._tensor(targets)[:, None])
        return cast(FloatArray, chosen[:, 0].double().cpu().numpy())

    def _mask(self, prompt_length: int, owners: Tensor) -> Tensor:
        """``[1, 1, q, p + q]``, added to attention scores: 0 where seen, else the lowest number.

        Additive, because eager and sdpa attention both take it.
        """
        size = len(owners)
        own = (owners[:, None] == owners).tril()
        seen = torch.cat([own.new_ones(size, prompt_length), own], dim=1)
        lowest = torch.finfo(self._model.dtype).min
        mask = torch.zeros(seen.shape, dtype=self._model.dtype, device=seen.device)
        return mask.masked_fill(~seen, lowest)[None, None]

    def _require_packable(self, length: int) -> None:
        obstacle = find_obstacle(self._model, length)
        if obstacle is not None:
            raise ConfigError(
                "an LLM that can read several answers to a prompt side by side",
                found=obstacle,
                remedy="Set evaluation.zero_shot=false, or name another LLM in model.name.",
            )

    def _tensor(self, ids: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.as_tensor(ids, device=self._model.device)


def _rows(answers: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of the answers that are read together, in order; one-token answers need no reading."""
    row: list[int] = []
    taken = 0
    for place, answer in enumerate(answers):
        size = len(answer) - 1
        if row and taken + size > ROW_TOKENS:
            yield row
            row, taken = [], 0
        if size:
            row.append(place)
            taken += size
    if row:
        yield row
