"""Texts written line by line: the LLM fills in the lines of a fixed structure.

A small LLM keeps to a structure far better when each line's first words are given. So a line is a
part of its own (`base.Part`): it goes on until the line ends, and the next line's first words are
put after it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlrf4rec.generation.base import Part, Text
from rlrf4rec.prompts.items import first_repeat, line_items, separators
from rlrf4rec.prompts.templates import LineForm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def line_parts(
    tokenizer: PreTrainedTokenizerBase,
    openings: Sequence[str],
    max_new_tokens: int,
    forms: Sequence[LineForm] | None = None,
) -> list[Line]:
    """A part for each line.

    Args:
        tokenizer: the LLM's.
        openings: the first words of the second line and of those after it; the first line's stand
            in the prompt.
        max_new_tokens: of the whole answer; its lines share them out.
        forms: how much each line may hold; None: the same for all, and any items.
    """
    forms = [LineForm()] * (len(openings) + 1) if forms is None else forms
    shares = sum(form.share for form in forms)
    stop_ids = line_end_ids(tokenizer)
    words = _Words(tokenizer)
    given = [(), *(words.ids(f"\n{opening}") for opening in openings)]
    return [
        Line(
            max(1, max_new_tokens * form.share // shares),
            opening,
            stop_ids,
            form=form,
            words=words,
        )
        for form, opening in zip(forms, given, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Line(Part):
    """A line ends when the LLM ends it, or after a whole item (`LineForm`).

    One that was cut otherwise is not finished, and gone on from.

    Attributes:
        form: how much it may hold.
        words: of the tokens.
    """

    form: LineForm
    words: _Words

    def is_over(self, token_ids: Sequence[int]) -> bool:
        """After the last item that may be kept: the form's last one, or one before a repeat."""
        separator, most = self.form.separator, self.form.max_items
        if most is None or set(separator).isdisjoint(self.words.piece(token_ids[-1])):
            return False
        # What stands behind the last separator may still become another item.
        *items, _ = line_items("".join(map(self.words.piece, token_ids)), separator)
        return len(items) >= most or first_repeat(items) is not None

    def keep(self, drawn: Text) -> Text:
        """The line, ended before the separator after its last item that counts."""
        most = self.form.max_items
        if most is None:
            return drawn
        # Token by token, so that what is kept are the very tokens that were written.
        pieces = [self.words.piece(token) for token in drawn.token_ids]
        content = "".join(pieces)
        ends = list(separators(content, self.form.separator))
        # A small LLM that has begun to repeat itself goes on with it.
        most = min(most, first_repeat(line_items(content, self.form.separator)) or most)
        if len(ends) < most and (drawn.finished or not ends):
            return drawn
        end = ends[min(most, len(ends)) - 1]
        kept = 0
        while end >= len(pieces[kept]):
            end -= len(pieces[kept])
            kept += 1
        # A token may hold a separator and what stands before it, such as a closing bracket.
        return Text((*drawn.token_ids[:kept], *self.words.ids(pieces[kept][:end])), finished=True)


class _Words:
    """What tokens say."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        # Texts share most of their tokens, and decoding one costs more than a step of a GPU.
        self.piece = functools.cache(self._piece)

    def _piece(self, token: int) -> str:
        said = str(self._tokenizer.decode([token]))
        # Some bytes of a character are no text: all would be the same sign, and items alike.
        return f"<{token}>" if "\ufffd" in said else said

    def ids(self, words: str) -> tuple[int, ...]:
        """The tokens of some words, which begin where other words end."""
        ids: list[int] = self._tokenizer(words, add_special_tokens=False)["input_ids"]
        # Llama 2's tokenizer and its kin put a space of their own before whatever they read.
        if ids and words[0] != " " and self._tokenizer.convert_ids_to_tokens(ids[0]) == "\u2581":
            del ids[0]
        return tuple(ids)


def line_end_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token of the vocabulary that holds a line break."""
    ids = range(len(tokenizer))
    return frozenset(
        token
        for token, text in zip(ids, tokenizer.batch_decode([[i] for i in ids]), strict=True)
        if "\n" in text
    )
