"""Sampling line by line: the LLM fills in the lines of a fixed structure.

A small LLM keeps to a structure far better when each line's first words are given. So the answer is
written in as many passes as it has lines: a pass goes on until the line ends, and the next line's
first words are put after it. With prefix caching a pass reads only what is new.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlrf4rec.config import GenerationConfig
from rlrf4rec.generation.base import Engine, Request, Text
from rlrf4rec.prompts.items import first_repeat, line_items, separators
from rlrf4rec.prompts.templates import LineForm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LineWriter:
    """Samples answers whose lines begin with given words.

    Args:
        engine: who samples.
        tokenizer: the LLM's.
        openings: the first words of the second line and of those after it; the first line's stand
            in the prompt.
        forms: how much each line may hold; None: the same for all, and any items.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: PreTrainedTokenizerBase,
        openings: Sequence[str],
        forms: Sequence[LineForm] | None = None,
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._forms = [LineForm()] * (len(openings) + 1) if forms is None else list(forms)
        self._openings: list[tuple[int, ...]] = [
            tuple(tokenizer(f"\n{words}", add_special_tokens=False)["input_ids"])
            for words in openings
        ]
        self._line_ends = line_end_ids(tokenizer)
        # Texts share most of their tokens, and decoding one costs more than a step of a GPU.
        self._piece = functools.cache(lambda token: str(tokenizer.decode([token])))

    def sample(self, requests: Sequence[Request], settings: GenerationConfig) -> list[list[Text]]:
        """One list of texts a request, in the order of its seeds; see `Engine.sample`.

        ``max_new_tokens`` is for the whole answer and is shared out among its lines. A text is
        finished when each of its lines was ended, by the LLM or after a whole item (`LineForm`); a
        line that was cut otherwise is gone on from.
        """
        shares = sum(form.share for form in self._forms)
        budgets = [
            settings.model_copy(
                update={"max_new_tokens": max(1, settings.max_new_tokens * form.share // shares)}
            )
            for form in self._forms
        ]
        flat = [(tuple(one.prompt_ids), seed) for one in requests for seed in one.seeds]
        # The first line of all of a prompt's samples in one request, which reads the prompt once.
        first = self._engine.sample(requests, budgets[0], self._line_ends)
        texts = [self._whole_items(text, 0) for of_request in first for text in of_request]
        for number, opening in enumerate(self._openings, start=1):
            begun = [text.token_ids + opening for text in texts]
            lines = self._engine.sample(
                [
                    Request(prompt + answer, [line_seed(seed, number)], written=len(answer))
                    for (prompt, seed), answer in zip(flat, begun, strict=True)
                ],
                budgets[number],
                self._line_ends,
            )
            ended = [self._whole_items(line, number) for (line,) in lines]
            texts = [
                Text(answer + line.token_ids, before.finished and line.finished)
                for answer, before, line in zip(begun, texts, ended, strict=True)
            ]
        written = iter(texts)
        return [[next(written) for _ in one.seeds] for one in requests]

    def _whole_items(self, line: Text, number: int) -> Text:
        """The line, ended before the separator after its last item that counts."""
        form = self._forms[number]
        most = form.max_items
        if most is None:
            return line
        # Token by token, so that what is kept are the very tokens that were written.
        pieces = [self._piece(token) for token in line.token_ids]
        content = "".join(pieces)
        ends = list(separators(content, form.separator))
        # A small LLM that has begun to repeat itself goes on with it.
        most = min(most, first_repeat(line_items(content, form.separator)) or most)
        if len(ends) < most and (line.finished or not ends):
            return line
        end = ends[min(most, len(ends)) - 1]
        kept = 0
        while end >= len(pieces[kept]):
            end -= len(pieces[kept])
            kept += 1
        # A token may hold a separator and what stands before it, such as a closing bracket.
        rest = self._tokenizer(pieces[kept][:end], add_special_tokens=False)["input_ids"]
        return Text((*line.token_ids[:kept], *rest), finished=True)


def line_end_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token of the vocabulary that holds a line break."""
    ids = range(len(tokenizer))
    return frozenset(
        token
        for token, text in zip(ids, tokenizer.batch_decode([[i] for i in ids]), strict=True)
        if "\n" in text
    )


def line_seed(seed: int, line: int) -> int:
    """The seed of a sample's line, 32 bits; line 0 keeps the sample's own."""
    if line == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}\0{line}".encode()).digest()[:4], "big")
