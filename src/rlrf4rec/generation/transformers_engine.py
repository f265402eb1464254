"""The engine that runs anywhere, on a CPU or a GPU: transformers.

Each row's next token is drawn with that row's own random numbers. So a text depends on its seed
alone. (In bfloat16 the batch's padding may still change the last bit of a logit; float32 texts are
equal in practice.) The texts of a prompt share it (`shared_prompts`) where the model allows that;
else `generate` writes them, to which a logits processor leaves no choice. A batch of users is
written part by part: all of them end one before the next begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
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
from rlrf4rec.generation.base import (
    NOTHING_YET,
    Part,
    Request,
    Text,
    most_tokens,
    part_seed,
    text_of,
)
from rlrf4rec.generation.engines import require_device
from rlrf4rec.generation.packable import find_obstacle
from rlrf4rec.say_once import say_once

_Write = Callable[[Sequence[tuple[int, ...]], Sequence[int], Part], list[list[int]]]
"""From each row's tokens after the prompt and its seed to what is drawn behind them for a part."""

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
        batch: users written for at once.

    Raises:
        MissingPartError: no CUDA device where one is asked for.
    """

    def __init__(
        self, folder: Path, dtype: str, device: str, eos_token_ids: Sequence[int], batch: int = 16
    ) -> None:
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
        self._batch = batch

    def sample(
        self,
        requests: Iterable[Request],
        settings: GenerationConfig,
        parts: Sequence[Part],
    ) -> Iterator[list[Text]]:
        """See `Engine.sample`."""
        waiting = iter(requests)
        while batch := list(islice(waiting, self._batch)):
            texts = iter(self._write_parts(batch, settings, parts))
            for request in batch:
                yield [next(texts) for _ in request.seeds]

    def _write_parts(
        self, requests: Sequence[Request], settings: GenerationConfig, parts: Sequence[Part]
    ) -> list[Text]:
        """A text for each request and seed."""
        prompts = [tuple(request.prompt_ids) for request in requests for _ in request.seeds]
        if not prompts:
            return []
        own_seeds = [seed for request in requests for seed in request.seeds]
        write = self._writer(prompts, settings, most_tokens(parts))
        texts = [NOTHING_YET] * len(prompts)
        for number, part in enumerate(parts):
            ends = self._ends(part)
            begun = [(*text.token_ids, *part.opening) for text in texts]
            seeds = [part_seed(seed, number) for seed in own_seeds]
            texts = [
                part.after(before, text_of(tokens, ends))
                for before, tokens in zip(texts, write(begun, seeds, part), strict=True)
            ]
        return texts

    def _writer(
        self, prompts: Sequence[tuple[int, ...]], settings: GenerationConfig, steps: int
    ) -> _Write:
        """The way to write behind each row's prompt that this model allows."""
        obstacle = self._obstacle(prompts, steps)
        if obstacle is None:
            return self._share_prompts(prompts, settings, steps)
        say_once(f"Prompts are read once for each text, which is slower: {obstacle}.")

        def write(
            begun: Sequence[tuple[int, ...]], seeds: Sequence[int], part: Part
        ) -> list[list[int]]:
            whole = [prompt + own for prompt, own in zip(prompts, begun, strict=True)]
            return self._generate(whole, self._sampling(seeds, settings, part), part)

        return write

    def _obstacle(self, prompts: Sequence[tuple[int, ...]], steps: int) -> str | None:
        """Why the texts of a prompt cannot share it, or None if they can."""
        if not shared_prompts.can_share(self._model):
            return "the model's attention is not PyTorch's own (sdpa)"
        if any(len(prompt) < 2 for prompt in prompts):
            return "a prompt has no token but the last"
        return find_obstacle(self._model, max(map(len, prompts)) + steps)

    def _share_prompts(
        self, prompts: Sequence[tuple[int, ...]], settings: GenerationConfig, steps: int
    ) -> _Write:
        """Reads each prompt once for all rows and all their parts."""
        # Of each prompt, which rows follow it: its last token is read by each of them.
        followers: dict[tuple[int, ...], list[int]] = {}
        for row, prompt in enumerate(prompts):
            followers.setdefault(prompt[:-1], []).append(row)
        groups = shared_prompts.even_groups(list(followers.items()), steps)
        order = [row for _, of_prompt in groups for row in of_prompt]
        read = shared_prompts.read_prompts(self._model, [prompt for prompt, _ in groups])
        # The prompt's last token, and what is written; the last one drawn is not read.
        rows = shared_prompts.Rows(self._model, read, len(order), steps)

        def write(
            begun: Sequence[tuple[int, ...]], seeds: Sequence[int], part: Part
        ) -> list[list[int]]:
            written = rows.write(
                [prompts[row][-1:] + begun[row] for row in order],
                self._sampling([seeds[row] for row in order], settings, part).draw,
                part.max_new_tokens,
                self._ends(part),
            )
            by_row = dict(zip(reversed(order), reversed(written), strict=True))
            return [by_row[row] for row in range(len(prompts))]

        return write

    def _generate(
        self, rows: Sequence[tuple[int, ...]], sampling: SeededSampling, part: Part
    ) -> list[list[int]]:
        """What `generate` draws behind each row's tokens."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._padding)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(rows):
            ids[row, width - len(prompt) :] = torch.as_tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                logits_processor=LogitsProcessorList([sampling]),
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                max_new_tokens=part.max_new_tokens,
                eos_token_id=sorted(self._ends(part)),
                pad_token_id=self._padding,
            )
        tokens: list[list[int]] = output[:, width:].tolist()
        return tokens

    def _ends(self, part: Part) -> frozenset[int]:
        return part.stop_ids.union(self._eos)

    @staticmethod
    def _sampling(seeds: Sequence[int], settings: GenerationConfig, part: Part) -> SeededSampling:
        return SeededSampling(seeds, settings.temperature, settings.top_p, part.max_new_tokens)
