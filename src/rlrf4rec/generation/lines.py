"""Sampling line by line: the LLM fills in the lines of a fixed structure.

A small LLM keeps to a structure far better when each line's first words are given. So the answer is
written in as many passes as it has lines: a pass goes on until the line ends, and the next line's
first words are put after it. With prefix caching a pass reads only what is new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlrf4rec.config import GenerationConfig
from rlrf4rec.generation.base import Engine, Request, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LineWriter:
    """Samples answers whose lines begin with given words.

    Args:
        engine: who samples.
        tokenizer: the LLM's.
        openings: the first words of the second line and of those after it; the first line's stand
            in the prompt.
    """

    def __init__(
        self, engine: Engine, tokenizer: PreTrainedTokenizerBase, openings: Sequence[str]
    ) -> None:
        self._engine = engine
        self._openings: list[tuple[int, ...]] = [
            tuple(tokenizer(f"\n{words}", add_special_tokens=False)["input_ids"])
            for words in openings
        ]
        self._line_ends = line_end_ids(tokenizer)

    def sample(self, requests: Sequence[Request], settings: GenerationConfig) -> list[list[Text]]:
        """One list of texts a request, in the order of its seeds; see `Engine.sample`.

        ``max_new_tokens`` is for the whole answer and is shared out evenly among its lines. A text
        is finished when the LLM ended each of its lines; a line that was cut is gone on from.
        """
        a_line = settings.model_copy(
            update={"max_new_tokens": settings.max_new_tokens // (len(self._openings) + 1)}
        )
        flat = [(tuple(one.prompt_ids), seed) for one in requests for seed in one.seeds]
        # The first line of all of a prompt's samples in one request, which reads the prompt once.
        first = self._engine.sample(requests, a_line, self._line_ends)
        texts = [text for of_request in first for text in of_request]
        for number, opening in enumerate(self._openings, start=1):
            begun = [text.token_ids + opening for text in texts]
            lines = self._engine.sample(
                [
                    Request(prompt + answer, [line_seed(seed, number)], goes_on=True)
                    for (prompt, seed), answer in zip(flat, begun, strict=True)
                ],
                a_line,
                self._line_ends,
            )
            texts = [
                Text(answer + line.token_ids, before.finished and line.finished)
                for answer, before, (line,) in zip(begun, texts, lines, strict=True)
            ]
        written = iter(texts)
        return [[next(written) for _ in one.seeds] for one in requests]


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
