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

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

NAME = "rlrf4rec_shared_prompts"
"""Under which transformers finds the attention."""

_MOST_TOKENS = 2**16
"""Of prompts that are read in one pass."""

_MOST_SCORES = 2**28
"""Of attention that a pass over the rows' own tokens writes down: 1 GB in 32 bits."""

_LOOK_EVERY = 8
"""Steps between two looks at whether all texts have ended: a look waits for the device."""

Draw = Callable[[Tensor], Tensor]
"""From logits ``[r, vocabulary]`` to the next tokens ``[r, 1]``."""


@dataclass(frozen=True)
class Prompts:
    """What was read once.

    Attributes:
        keys: of each layer, ``[p, k, l, d]``.
        values: likewise.
        lengths: ``[p]``; what lies behind is padding.
    """

    keys: list[Tensor]
    values: list[Tensor]
    lengths: Tensor

    @property
    def there(self) -> Tensor:
        """``[p, l]``, whether there is a token."""
        columns = torch.arange(self.keys[0].shape[2], device=self.lengths.device)
        return columns < self.lengths[:, None]

    def some(self, first: int, end: int) -> Prompts:
        """Those numbered from `first` to before `end`."""
        return Prompts(
            [keys[first:end] for keys in self.keys],
            [values[first:end] for values in self.values],
            self.lengths[first:end],
        )


_prompts: ContextVar[Prompts | None] = ContextVar("prompts", default=None)


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
    padded = pad_sequence(ids, batch_first=True).to(model.device)
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


@torch.inference_mode()
def write(
    model: PreTrainedModel,
    prompts: Prompts,
    endings: Sequence[Sequence[int]],
    draw: Draw,
    steps: int,
    ends: Collection[int],
) -> list[list[int]]:
    """Continue each row until each has ended, ``[r]`` lists of at most `steps` tokens.

    Args:
        model: a causal language model of which `can_share` and `find_obstacle` say that it can.
        prompts: ``p`` of them (`read_prompts`).
        endings: ``r`` token lists, none empty: the first ``n`` follow the first prompt, and so on.
        draw: called once a step.
        steps: the most tokens that are drawn for each row.
        ends: tokens that end a text. What is drawn after one means nothing.
    """
    rows = _Rows.of(prompts, endings, steps)
    last = torch.tensor(sorted(ends), device=model.device)
    drawn: list[Tensor] = []
    ended = torch.zeros(len(endings), 1, dtype=torch.bool, device=model.device)
    with _shared_attention(model):
        logits = rows.read_endings(model)
        for step in range(steps):
            drawn.append(draw(logits))
            ended |= torch.isin(drawn[-1], last)
            looks = step % _LOOK_EVERY == _LOOK_EVERY - 1
            if step == steps - 1 or (looks and bool(ended.all())):
                break
            logits = rows.read_one(model, drawn[-1])
    tokens: list[list[int]] = torch.cat(drawn, dim=1).tolist()
    return tokens


@dataclass
class _Rows:
    """What comes after the prompts.

    Attributes:
        prompts: ``p`` of them.
        cache: keys and values of the own tokens.
        endings: ``[r, t]``, padded on the left, so that all rows go on in the same column.
        there: ``[r, c]``, whether an own column holds a token (or will).
        positions: ``[r, c]``, of the own tokens in the whole text.
    """

    prompts: Prompts
    cache: _OwnCache
    endings: Tensor
    there: Tensor
    positions: Tensor

    @classmethod
    def of(cls, prompts: Prompts, endings: Sequence[Sequence[int]], steps: int) -> _Rows:
        """Rows with room for `steps` more tokens."""
        device = prompts.lengths.device
        ids = [torch.tensor(one) for one in endings]
        padded = pad_sequence(ids, batch_first=True, padding_side="left").to(device)
        width = padded.shape[1]
        missing = width - torch.tensor([len(one) for one in ids], device=device)[:, None]
        # The last token that is drawn is not read.
        columns = torch.arange(width + steps - 1, device=device)
        behind = prompts.lengths.repeat_interleave(len(ids) // len(prompts.lengths))[:, None]
        return cls(
            prompts,
            _OwnCache.empty(prompts, len(ids), len(columns)),
            padded,
            columns >= missing,
            (behind + columns - missing).clamp(min=0),
        )

    def read_endings(self, model: PreTrainedModel) -> Tensor:
        """The next token's logits, ``[r, vocabulary]``; prompt by prompt as far as memory asks."""
        n_prompts, (n_rows, width) = len(self.prompts.lengths), self.endings.shape
        each = n_rows // n_prompts
        keys = self.prompts.keys[0].shape[2] + width
        heads = model.config.get_text_config().num_attention_heads
        at_once = max(1, _MOST_SCORES // (each * heads * width * keys))
        logits = []
        for first in range(0, n_prompts, at_once):
            end = min(first + at_once, n_prompts)
            rows = slice(first * each, end * each)
            logits.append(
                self._read(
                    model,
                    self.endings[rows],
                    self.prompts.some(first, end),
                    self.cache.some(rows),
                    rows,
                )
            )
        self.cache.go_on(width)
        return torch.cat(logits)

    def read_one(self, model: PreTrainedModel, tokens: Tensor) -> Tensor:
        """Likewise after one more token of each row, ``[r, 1]``."""
        return self._read(model, tokens, self.prompts, self.cache, slice(None))

    def _read(
        self,
        model: PreTrainedModel,
        tokens: Tensor,
        prompts: Prompts,
        cache: _OwnCache,
        rows: slice,
    ) -> Tensor:
        begin, end = cache.length, cache.length + tokens.shape[1]
        there, columns = self.there[rows, :end], torch.arange(end, device=tokens.device)
        earlier = columns <= columns[begin:, None]
        own = there[:, None, :] & earlier
        # A row's padding looks at the prompt alone, which is never empty.
        prompt = prompts.there.repeat_interleave(len(tokens) // len(prompts.lengths), dim=0)
        mask = torch.cat([prompt[:, None, :].expand(-1, end - begin, -1), own], dim=-1)
        token = _prompts.set(prompts)
        try:
            output: Any = model(
                input_ids=tokens,
                position_ids=self.positions[rows, begin:end],
                attention_mask=mask.unsqueeze(1),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        finally:
            _prompts.reset(token)
        logits: Tensor = output.logits[:, -1]
        return logits


class _OwnLayer(DynamicLayer):
    """Keys and values ``[r, k, c, d]`` in place: nothing is copied as they become more."""

    def __init__(self, keys: Tensor, values: Tensor, length: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.all_keys, self.all_values, self.length = keys, values, length

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Put down the next tokens' and return all so far."""
        begin, self.length = self.length, self.length + key_states.shape[2]
        self.all_keys[:, :, begin : self.length] = key_states
        self.all_values[:, :, begin : self.length] = value_states
        return self.all_keys[:, :, : self.length], self.all_values[:, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length


class _OwnCache(Cache):
    """Of all layers."""

    def __init__(self, layers: list[_OwnLayer]) -> None:
        super().__init__(layers=[*layers])
        self._own = layers

    @classmethod
    def empty(cls, prompts: Prompts, n_rows: int, columns: int) -> _OwnCache:
        """Room for `columns` tokens of `n_rows` rows."""

        def room(like: Tensor) -> Tensor:
            _, groups, _, units = like.shape
            return like.new_zeros(n_rows, groups, columns, units)

        pairs = zip(prompts.keys, prompts.values, strict=True)
        return cls([_OwnLayer(room(keys), room(values)) for keys, values in pairs])

    @property
    def length(self) -> int:
        """Tokens of each row so far, padding among them."""
        return self._own[0].length

    def some(self, rows: slice) -> _OwnCache:
        """A view of some rows; it counts its tokens for itself."""
        return _OwnCache(
            [
                _OwnLayer(layer.all_keys[rows], layer.all_values[rows], layer.length)
                for layer in self._own
            ]
        )

    def go_on(self, count: int) -> None:
        """Count tokens that were put down through `some`."""
        for layer in self._own:
            layer.length += count


@contextmanager
def _shared_attention(model: PreTrainedModel) -> Iterator[None]:
    config = model.config.get_text_config()
    own = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = own


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers asks of an attention.

    Args:
        query: ``[r, h, t, d]``.
        key: own ones, ``[r, k, c, d]``.
        value: likewise.
        attention_mask: ``[r, 1, t, l + c]``, over the prompt's tokens and the own ones.

    Returns:
        ``[r, t, h, d]``.
    """
    prompts = _prompts.get()
    assert prompts is not None
    layer = int(module.layer_idx)  # type: ignore[arg-type]  # an attribute of every attention
    prompt_key, prompt_value = prompts.keys[layer], prompts.values[layer]
    rows, heads, width, units = query.shape
    n_prompts, groups, length, _ = prompt_key.shape
    # Rows of a prompt, and heads of a group, ask the same keys: one product for all of them.
    split = (n_prompts, rows // n_prompts, groups, heads // groups, width)

    def by_prompt(states: Tensor) -> Tensor:
        return states.transpose(1, 2).reshape(n_prompts, groups, -1, states.shape[-1])

    def by_row(states: Tensor) -> Tensor:
        n, g = split[1], split[3]
        return states.view(n_prompts, groups, n, g, width, -1).transpose(1, 2)

    asked = query.reshape(*split, units) * (units**-0.5 if scaling is None else scaling)
    to_prompt = by_row(by_prompt(asked) @ prompt_key.transpose(-1, -2))
    own = asked.reshape(rows, groups, -1, units)
    to_own = (own @ key.transpose(-1, -2)).view(*split, -1)
    scores = torch.cat([to_prompt, to_own], dim=-1).float()
    seen = attention_mask.view(*split[:2], 1, 1, width, -1)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1).to(query.dtype)
    of_prompt, of_own = weights[..., :length], weights[..., length:]
    attended = by_row(by_prompt(of_prompt) @ prompt_value)
    attended = attended + (of_own.reshape(rows, groups, -1, of_own.shape[-1]) @ value).view(
        *split, units
    )
    return attended.reshape(rows, heads, width, units).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attend)
