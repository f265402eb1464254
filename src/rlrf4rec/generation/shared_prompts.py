"""Many texts of each prompt at once: a prompt is read, and kept in memory, once for all of them.

transformers' `generate` gives every text a copy of its prompt's keys and values, and a step reads
(and copies) them all. Here the texts of a prompt attend to one copy, and keep for themselves only
what comes after it: memory and traffic of a step shrink by the number of texts, so that far more of
them fit into a batch.

Shape legend: ``p`` prompts of at most ``l`` tokens, ``n`` texts of each, ``r = p * n`` rows, ``c``
tokens of a row's own, ``t`` of them read in one pass; ``h`` heads in ``k`` groups that share keys,
of ``d`` units.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from rlrf4rec.cuda_graphs import Work, can_record, record, warm_up
from rlrf4rec.generation.shared_attention import OwnCache, Prompts, attending_to
from rlrf4rec.say_once import say_once

_MOST_TOKENS = 2**16
"""Of prompts that are read in one pass."""

_MOST_SCORES = 2**28
"""Of attention that a pass over the rows' own tokens writes down: 1 GB in 32 bits."""

_LOOK_EVERY = 8
"""Steps between two looks at whether all texts have ended: a look waits for the device."""

_WORTH_RECORDING = 8
"""Steps; to record one takes as long as three."""

_ALIGNED = 8
"""Columns of prompts, and of own tokens, come in multiples of this: a GPU's products want it."""

Draw = Callable[[Tensor], Tensor]
"""From logits ``[r, vocabulary]`` to the next tokens ``[r, 1]``."""


def can_share(model: PreTrainedModel) -> bool:
    """Whether the attention can be exchanged for the one here (see also `find_obstacle`)."""
    return bool(model.config.get_text_config()._attn_implementation == "sdpa")


def even_groups(
    followers: Sequence[tuple[tuple[int, ...], list[int]]], steps: int
) -> list[tuple[tuple[int, ...], list[int]]]:
    """Prompts with as many rows each.

    Users with one and the same prompt may have a hundred rows together where others have eight. So
    a prompt with many rows is laid down several times, and one with too few has its first row
    written again, in groups of the size with which all of them take the fewest tokens of memory.

    Args:
        followers: prompts and the rows that follow each, at least one.
        steps: tokens that a row may take.
    """
    longest = max(len(prompt) for prompt, _ in followers)
    counts = [len(rows) for _, rows in followers]

    def tokens(size: int) -> int:
        return sum(-(-count // size) for count in counts) * (size * steps + longest)

    size = min(sorted(set(counts), reverse=True), key=tokens)
    return [
        (prompt, part + rows[:1] * (size - len(part)))
        for prompt, rows in followers
        for part in (rows[start : start + size] for start in range(0, len(rows), size))
    ]


@torch.inference_mode()
def read_prompts(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Prompts:
    """Keys and values of token lists, none of them empty."""
    ids = [torch.tensor(prompt) for prompt in prompts]
    lengths = torch.tensor([len(one) for one in ids], device=model.device)
    # Any token will do for padding, which nobody looks at.
    padded = pad_sequence(ids, batch_first=True)
    padded = pad(padded, (0, -padded.shape[1] % _ALIGNED)).to(model.device)
    mask = torch.arange(padded.shape[1], device=model.device) < lengths[:, None]
    at_once = max(1, _MOST_TOKENS // padded.shape[1])
    starts = range(0, len(padded), at_once)
    layers = [
        model.base_model(
            input_ids=padded[start : start + at_once],
            attention_mask=mask[start : start + at_once].long(),
            use_cache=True,
        ).past_key_values.layers
        for start in starts
    ]
    parts = list(zip(*layers, strict=True))
    return Prompts(
        [torch.cat([part.keys for part in layer]) for layer in parts],
        [torch.cat([part.values for part in layer]) for layer in parts],
        lengths,
    )


class Rows:
    """What follows the prompts; written part by part, each of which reads what came before.

    Args:
        model: a causal language model of which `can_share` and `find_obstacle` say that it can.
        prompts: ``p`` of them (`read_prompts`).
        n_rows: ``r``: the first ``n`` follow the first prompt, and so on.
        most_tokens: ``c``, that a row may come to.
    """

    @torch.inference_mode()
    def __init__(
        self, model: PreTrainedModel, prompts: Prompts, n_rows: int, most_tokens: int
    ) -> None:
        device = model.device
        most_tokens += -most_tokens % _ALIGNED
        self._model, self._prompts = model, prompts
        self._each = n_rows // len(prompts.lengths)
        self._cache = OwnCache.empty(prompts, self._each, most_tokens)
        self._columns = torch.arange(most_tokens, device=device)
        # What a recorded step reads, and writes, stays in its place.
        self._there = torch.zeros(n_rows, most_tokens, dtype=torch.bool, device=device)
        self._positions = torch.zeros(n_rows, most_tokens, dtype=torch.long, device=device)
        self._token = torch.zeros(n_rows, 1, dtype=torch.long, device=device)
        self._column = torch.zeros(1, dtype=torch.long, device=device)
        self._logits = torch.empty(0)
        self._recorded: Work | None = None
        self._may_record = can_record(device)

    @torch.inference_mode()
    def write(
        self,
        endings: Sequence[Sequence[int]],
        draw: Draw,
        steps: int,
        ends: Collection[int],
    ) -> list[list[int]]:
        """Continue each row until each has ended, ``[r]`` lists of at most `steps` tokens.

        Args:
            endings: ``r`` token lists, none empty, each the row's own tokens so far.
            draw: called once a step.
            steps: the most tokens that are drawn for each row.
            ends: tokens that end a text. What is drawn after one means nothing.
        """
        device = self._token.device
        last = torch.tensor(sorted(ends), device=device)
        drawn: list[Tensor] = []
        ended = torch.zeros_like(self._token, dtype=torch.bool)
        column, logits = self._read_endings(endings)
        read_one = self._step(steps)
        for step in range(steps):
            drawn.append(draw(logits))
            ended |= torch.isin(drawn[-1], last)
            looks = step % _LOOK_EVERY == _LOOK_EVERY - 1
            if step == steps - 1 or (looks and bool(ended.all())):
                break
            logits = read_one(drawn[-1], column + step)
        tokens: list[list[int]] = torch.cat(drawn, dim=1).tolist()
        return tokens

    def _read_endings(self, endings: Sequence[Sequence[int]]) -> tuple[int, Tensor]:
        """The next column, and logits ``[r, vocabulary]``; prompt by prompt as memory asks."""
        device = self._token.device
        ids = [torch.tensor(one) for one in endings]
        # On the left, so that all rows go on in the same column.
        padded = pad_sequence(ids, batch_first=True, padding_side="left").to(device)
        width = padded.shape[1]
        missing = width - torch.tensor([len(one) for one in ids], device=device)[:, None]
        self._there.copy_(self._columns >= missing)
        behind = self._prompts.lengths.repeat_interleave(self._each)[:, None]
        self._positions.copy_((behind + self._columns - missing).clamp(min=0))
        heads = self._model.config.get_text_config().num_attention_heads
        scores = self._each * heads * width * (self._prompts.keys[0].shape[2] + width)
        at_once = max(1, _MOST_SCORES // scores)
        logits = []
        for first in range(0, len(self._prompts.lengths), at_once):
            end = min(first + at_once, len(self._prompts.lengths))
            rows = slice(first * self._each, end * self._each)
            prompts, cache = self._prompts.some(first, end), self._cache.some(first, end)
            logits.append(
                self._read(padded[rows], prompts, cache, rows, self._columns[:width], width)
            )
        return width, torch.cat(logits)

    def _step(self, steps: int) -> Callable[[Tensor, int], Tensor]:
        """From a token of each row and the column it is put into to the next one's logits."""
        if self._may_record and self._recorded is None and steps >= _WORTH_RECORDING:
            self._record()
        recorded = self._recorded
        if recorded is None:
            return self._read_one

        def read_one(tokens: Tensor, column: int) -> Tensor:
            self._token.copy_(tokens)
            self._column.fill_(column)
            recorded()
            return self._logits

        return read_one

    def _record(self) -> None:
        device = self._token.device
        # In a column that is written before it is looked at.
        self._column.fill_(len(self._columns) - 1)
        try:
            warm_up(self._read_in_place, device)
            self._recorded = record(self._read_in_place, device)
        except RuntimeError as error:
            say_once(f"Steps of writing are not recorded, which is slower: {error}")
            self._may_record = False

    def _read_in_place(self) -> None:
        self._logits = self._read(
            self._token, self._prompts, self._cache, slice(None), self._column, len(self._columns)
        )

    def _read_one(self, tokens: Tensor, column: int) -> Tensor:
        columns = self._columns[column : column + 1]
        return self._read(tokens, self._prompts, self._cache, slice(None), columns, column + 1)

    def _read(
        self,
        tokens: Tensor,
        prompts: Prompts,
        cache: OwnCache,
        rows: slice,
        columns: Tensor,
        end: int,
    ) -> Tensor:
        """Logits behind the last of the tokens ``[r, t]``, put into ``columns`` ``[t]``."""
        cache.go_to(columns, end)
        own = self._there[rows, None, :end] & (self._columns[:end] <= columns[:, None])
        # A row's padding looks at the prompt alone, which is never empty.
        there = torch.cat(
            [
                prompts.there[:, None, None].expand(-1, self._each, len(columns), -1),
                own.view(-1, self._each, *own.shape[1:]),
            ],
            dim=-1,
        )
        mask = torch.zeros(there.shape, dtype=self._model.dtype, device=there.device)
        with attending_to(self._model, prompts):
            output: Any = self._model(
                input_ids=tokens,
                position_ids=self._positions[rows].index_select(1, columns),
                attention_mask=mask.masked_fill_(~there, -torch.inf),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: Tensor = output.logits[:, -1]
        return logits
