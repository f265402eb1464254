"""Attention of many texts to one copy of their prompt's keys and values, and each to its own.

Shape legend: see `shared_prompts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

NAME = "rlrf4rec_shared_prompts"
"""Under which transformers finds the attention."""


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


class _OwnLayer(DynamicLayer):
    """Keys and values ``[p, k, n, c, d]`` in place: nothing is copied as they become more."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.all_keys, self.all_values = keys, values
        self.columns, self.end = torch.empty(0), 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Put down the next tokens' ``[r, k, t, d]``, and return all that are looked at."""
        return self._put(self.all_keys, key_states), self._put(self.all_values, value_states)

    def _put(self, into: Tensor, states: Tensor) -> Tensor:
        n_prompts, _, each, _, _ = into.shape
        by_prompt = states.view(n_prompts, each, *states.shape[1:])
        into.index_copy_(3, self.columns, by_prompt.transpose(1, 2))
        return into[:, :, :, : self.end]

    def get_seq_length(self) -> int:
        return self.end - len(self.columns)


class OwnCache(Cache):
    """Keys and values of the rows' own tokens, of all layers."""

    def __init__(self, layers: list[_OwnLayer]) -> None:
        super().__init__(layers=[*layers])
        self._own = layers

    @classmethod
    def empty(cls, prompts: Prompts, each: int, columns: int) -> OwnCache:
        """Room for `columns` tokens of `each` rows of a prompt."""

        def room(like: Tensor) -> Tensor:
            n_prompts, groups, _, units = like.shape
            return like.new_zeros(n_prompts, groups, each, columns, units)

        pairs = zip(prompts.keys, prompts.values, strict=True)
        return cls([_OwnLayer(room(keys), room(values)) for keys, values in pairs])

    def go_to(self, columns: Tensor, end: int) -> None:
        """The next tokens belong into ``columns`` ``[t]``, and look at those before ``end``."""
        for layer in self._own:
            layer.columns, layer.end = columns, end

    def some(self, first: int, end: int) -> OwnCache:
        """A view of the rows of some prompts, as `Prompts.some`."""
        return OwnCache(
            [
                _OwnLayer(layer.all_keys[first:end], layer.all_values[first:end])
                for layer in self._own
            ]
        )


_prompts: ContextVar[Prompts | None] = ContextVar("prompts", default=None)


@contextmanager
def attending_to(model: PreTrainedModel, prompts: Prompts) -> Iterator[None]:
    """While open, the model's rows follow these prompts; its cache is an `OwnCache`."""
    config = model.config.get_text_config()
    own = config._attn_implementation
    config._attn_implementation = NAME
    token = _prompts.set(prompts)
    try:
        yield
    finally:
        _prompts.reset(token)
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
        key: own ones, ``[p, k, n, c, d]``.
        value: likewise.
        attention_mask: ``[p, n, t, l + c]``, added to the scores of prompt and own tokens.

    Returns:
        ``[r, t, h, d]``.
    """
    prompts = _prompts.get()
    assert prompts is not None
    layer = int(module.layer_idx)  # type: ignore[arg-type]  # an attribute of every attention
    prompt_key, prompt_value = prompts.keys[layer], prompts.values[layer]
    rows, heads, width, units = query.shape
    n_prompts, groups, each, _, _ = key.shape
    length, seen = prompt_key.shape[2], attention_mask.shape[-1]
    asked = query * (units**-0.5 if scaling is None else scaling)
    # Rows of a prompt, and heads of a group, ask the same keys: one product for all of them.
    split = (n_prompts, each, groups, heads // groups, width, units)
    asked = asked.view(split).transpose(1, 2).reshape(n_prompts * groups, -1, units)
    scores = asked.new_empty(*asked.shape[:2], seen)
    by_row = (n_prompts * groups * each, -1)
    # Both products write into their part of the scores, so that nothing is put together.
    torch.bmm(asked, prompt_key.flatten(0, 1).mT, out=scores[..., :length])
    own_scores = scores.view(*by_row, seen)[..., length:]
    torch.bmm(asked.view(*by_row, units), key.flatten(0, 2).mT, out=own_scores)
    of_heads = scores.view(n_prompts, groups, each, -1, width, seen)
    of_heads += attention_mask[:, None, :, None]
    weights = scores.softmax(dim=-1)
    attended = torch.bmm(weights[..., :length], prompt_value.flatten(0, 1))
    of_own = weights.view(*by_row, seen)[..., length:]
    attended = torch.baddbmm(attended.view(*by_row, units), of_own, value.flatten(0, 2))
    # From prompts, groups, rows of a prompt, heads of a group and tokens.
    attended = attended.view(n_prompts, groups, each, -1, width, units).permute(0, 2, 4, 1, 3, 5)
    return attended.reshape(rows, width, heads, units), None


AttentionInterface.register(NAME, _attend)
