"""The engine that runs anywhere, on a CPU or a GPU: transformers.

Each row's next token is drawn with that row's own random numbers. So a text depends on its seed
alone. (In bfloat16 the batch's padding may still change the last bit of a logit; float32 texts are
equal in practice.) The texts of a prompt share it (`shared_prompts`) where the model allows that;
else `generate` writes them, to which a logits processor leaves no choice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
)
from transformers import GenerationConfig as ModelGenerationConfig

from rlrf4rec.config import GenerationConfig
from rlrf4rec.generation import shared_prompts
from rlrf4rec.generation.base import Request, Text, text_of
from rlrf4rec.generation.engines import require_device
from rlrf4rec.generation.packable import find_obstacle
from rlrf4rec.say_once import say_once

_LIKELY = 512
"""Tokens of which the nucleus is made where they hold it; nearly always they do."""


class SeededSampling(LogitsProcessor):
    """Draws the next token of row ``b`` with row ``b``'s own stream of uniform numbers.

    Args:
        seeds: one a row.
        temperature: divides the logits.
        top_p: keeps the smallest set of most likely tokens with this mass.
        steps: the most tokens that will be drawn.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float, steps: int) -> None:
        draws = [np.random.default_rng(seed).random(steps) for seed in seeds]
        self._uniform = torch.from_numpy(np.stack(draws)).float()
        self._temperature = temperature
        self._top_p = top_p
        self._step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Logits ``[b, vocabulary]`` in, minus infinity everywhere but at the drawn token out."""
        return torch.full_like(scores, -torch.inf).scatter(-1, self.draw(scores), 0.0)

    def draw(self, scores: torch.Tensor) -> torch.Tensor:
        """The next tokens ``[b, 1]`` from logits ``[b, vocabulary]``."""
        probability = torch.softmax(scores.float() / self._temperature, dim=-1)
        # Once for all steps: a copy to a GPU at every step would make it wait.
        self._uniform = self._uniform.to(scores.device)
        uniform = self._uniform[:, self._step, None]
        self._step += 1
        if self._top_p == 1 or probability.shape[-1] <= _LIKELY:
            return self._from_nucleus(*_sorted(probability), uniform)
        # To sort a whole vocabulary takes longer than all products of a small model.
        places = probability.topk(_LIKELY, dim=-1, sorted=False).indices.sort(dim=-1).values
        likely = probability.gather(-1, places)
        # What is as likely as the least of them may have been left out.
        sure = torch.where(likely > likely.amin(dim=-1, keepdim=True), likely, 0.0).sum(dim=-1)
        likely, order = _sorted(likely)
        token = self._from_nucleus(likely, places.gather(-1, order), uniform)
        rest = (sure <= self._top_p).nonzero()[:, 0]
        if len(rest):
            token[rest] = self._from_nucleus(*_sorted(probability[rest]), uniform[rest])
        return token

    def _from_nucleus(
        self, probability: torch.Tensor, order: torch.Tensor, uniform: torch.Tensor
    ) -> torch.Tensor:
        """Tokens ``[b, 1]`` by probabilities from the highest on, beside them whose they are."""
        before = probability.cumsum(dim=-1) - probability
        probability = probability.masked_fill(before >= self._top_p, 0.0)
        cumulative = probability.cumsum(dim=-1)
        drawn = (cumulative <= uniform * cumulative[:, -1:]).sum(dim=-1, keepdim=True)
        # Rounding may leave the threshold at the very end, beyond the kept tokens.
        last_kept = (probability > 0).sum(dim=-1, keepdim=True) - 1
        return order.gather(-1, torch.minimum(drawn, last_kept))


def _sorted(probability: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """From the highest on, equal ones in their own order; and where they stood."""
    return probability.sort(dim=-1, descending=True, stable=True)


class TransformersEngine:
    """Samples with transformers.

    Args:
        folder: a Hugging Face model folder.
        dtype: ``float32`` or ``bfloat16``.
        device: ``cpu`` or ``cuda``.
        eos_token_ids: tokens that end a text.

    Raises:
        MissingPartError: no CUDA device where one is asked for.
    """

    def __init__(self, folder: Path, dtype: str, device: str, eos_token_ids: Sequence[int]) -> None:
        require_device(device)
        # `Any`: the auto classes declare a union that has no `generate`.
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True
        )
        self._model = cast(Any, model).to(device).eval()
        # A model's folder may bring habits (Qwen's brings a repetition penalty) that would be
        # applied beside the run's own settings, by this engine and not by the others.
        self._model.generation_config = ModelGenerationConfig()  # type: ignore[no-untyped-call]
        self._eos = list(eos_token_ids)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        padding = tokenizer.pad_token_id
        self._padding = self._eos[0] if padding is None else padding
        self._prompts: tuple[list[tuple[int, ...]], shared_prompts.Prompts] | None = None

    def sample(
        self,
        requests: Sequence[Request],
        settings: GenerationConfig,
        stop_ids: Collection[int] = (),
    ) -> list[list[Text]]:
        """See `Engine.sample`."""
        ends = sorted({*self._eos, *stop_ids})
        if not any(request.seeds for request in requests):
            return [[] for _ in requests]
        obstacle = self._obstacle(requests, settings.max_new_tokens)
        if obstacle is None:
            rows = iter(self._share_prompts(requests, settings, ends))
        else:
            say_once(f"Prompts are read once for each text, which is slower: {obstacle}.")
            rows = iter(self._generate(requests, settings, ends))
        return [[text_of(next(rows), ends) for _ in request.seeds] for request in requests]

    def _obstacle(self, requests: Sequence[Request], steps: int) -> str | None:
        """Why the texts of a prompt cannot share it, or None if they can."""
        if not shared_prompts.can_share(self._model):
            return "the model's attention is not PyTorch's own (sdpa)"
        if any(len(request.prompt_ids) <= request.written + 1 for request in requests):
            return "a prompt has no token but the last"
        longest = max(len(request.prompt_ids) for request in requests)
        return find_obstacle(self._model, longest + steps)

    def _share_prompts(
        self, requests: Sequence[Request], settings: GenerationConfig, ends: list[int]
    ) -> list[list[int]]:
        """Token lists, one a request and seed."""
        # Of each prompt, which texts follow it: the last token is read by each of them.
        followers: dict[tuple[int, ...], list[int]] = {}
        endings: list[list[int]] = []
        seeds: list[int] = []
        for request in requests:
            cut = len(request.prompt_ids) - request.written - 1
            mine = followers.setdefault(tuple(request.prompt_ids[:cut]), [])
            for seed in request.seeds:
                mine.append(len(seeds))
                endings.append(list(request.prompt_ids[cut:]))
                seeds.append(seed)
        groups = shared_prompts.even_groups(
            [(prompt, rows) for prompt, rows in followers.items() if rows], settings.max_new_tokens
        )
        order = [row for _, rows in groups for row in rows]
        prompts = [prompt for prompt, _ in groups]
        sampling = self._sampling([seeds[row] for row in order], settings)
        written = shared_prompts.write(
            self._model,
            self._read(prompts),
            [endings[row] for row in order],
            sampling.draw,
            settings.max_new_tokens,
            ends,
        )
        by_row = dict(zip(reversed(order), reversed(written), strict=True))
        return [by_row[row] for row in range(len(seeds))]

    def _read(self, prompts: list[tuple[int, ...]]) -> shared_prompts.Prompts:
        """The prompts, read unless they are the last call's, whose texts are gone on from."""
        if self._prompts is None or self._prompts[0] != prompts:
            self._prompts = None
            self._prompts = prompts, shared_prompts.read_prompts(self._model, prompts)
        return self._prompts[1]

    def _generate(
        self, requests: Sequence[Request], settings: GenerationConfig, ends: list[int]
    ) -> list[list[int]]:
        """Likewise with `generate`."""
        rows = [(request.prompt_ids, seed) for request in requests for seed in request.seeds]
        width = max(len(prompt) for prompt, _ in rows)
        ids = torch.full((len(rows), width), self._padding)
        mask = torch.zeros_like(ids)
        for row, (prompt, _) in enumerate(rows):
            ids[row, width - len(prompt) :] = torch.as_tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        sampling = self._sampling([seed for _, seed in rows], settings)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                logits_processor=LogitsProcessorList([sampling]),
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                max_new_tokens=settings.max_new_tokens,
                eos_token_id=ends,
                pad_token_id=self._padding,
            )
        tokens: list[list[int]] = output[:, width:].tolist()
        return tokens

    @staticmethod
    def _sampling(seeds: Sequence[int], settings: GenerationConfig) -> SeededSampling:
        return SeededSampling(seeds, settings.temperature, settings.top_p, settings.max_new_tokens)
