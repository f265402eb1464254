"""Texts at work in OpenVINO GenAI's continuous batching.

Where one text ends, its next part or the next user's texts take its place at once, so that the
processor does not wait for the last text of a batch. Four rules keep a text the same, to the last
bit, whatever is written beside it; what breaks them was found by experiment (docs/performance.md):

- A prompt is read by a request of its own, before its texts. In bfloat16 what a prompt leaves
  behind depends on whether it is read at once or found in the prefix cache, so every text finds it.
- All texts of a prompt begin in the same step: the first that goes on takes the prompt's last
  cache block away from those that come later.
- What is at work has room in the cache. OpenVINO takes the place of one text for another and reads
  it again later; it then draws other tokens, also in float32.
- At least as many sequences as threads are at work, if need be some that nobody reads: with fewer,
  a text's attention is shared out among threads and added up in another order.

(A text that an engine writes a second time finds more of itself in the cache, which may change it.)
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlrf4rec.errors import ConfigError
from rlrf4rec.generation.base import (
    NOTHING_YET,
    Part,
    Request,
    Text,
    most_tokens,
    part_seed,
    shared_beginning,
    text_of,
)

MAX_ROWS = 128
"""Texts at work: with 64, writing takes a tenth longer (SmolLM2-135M, two cores)."""

LEAST_SEQUENCES = os.cpu_count() or 1
"""At work in every step: as many as there may be threads."""

_BLOCK = 32
"""Tokens in a block of the cache; OpenVINO's on a CPU."""

_COMPANY_TOKENS = 512
"""After which a sequence that nobody reads is replaced; it would fill the cache."""

Begin = Callable[[Sequence[int], int, int, frozenset[int]], Any]
"""From token ids, seed, most new tokens and ends to a handle (its type is not exported)."""


@dataclass
class _Order:
    """A request, the most tokens of the cache that it takes, and its texts so far."""

    request: Request
    tokens: int
    texts: dict[int, Text] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return len(self.texts) == len(self.request.seeds)


@dataclass
class _Row:
    """A text at work: its parts so far, and what is drawn of the present one."""

    order: _Order
    sample: int
    handle: Any = None
    number: int = 0
    text: Text = NOTHING_YET
    drawn: list[int] = field(default_factory=list)


class Pool:
    """Writes requests as a stream.

    Args:
        pipeline: OpenVINO GenAI's, whose step lets every sequence at work go on by one token.
        begin: puts a sequence to work.
        eos: tokens that end a text.
        parts: of each text.
        max_tokens: that the cache has room for.
    """

    def __init__(
        self,
        pipeline: Any,
        begin: Begin,
        eos: frozenset[int],
        parts: Sequence[Part],
        max_tokens: int,
    ) -> None:
        self._pipeline, self._begin, self._eos, self._parts = pipeline, begin, eos, parts
        # Once, and not for each text in each step: a line has hundreds of ends.
        self._ends = [eos | part.stop_ids for part in parts]
        self._max_tokens = max_tokens
        self._orders: deque[_Order] = deque()
        self._reading: list[tuple[Any, _Order]] = []
        self._rows: list[_Row] = []
        self._company: list[Any] = []

    def write(self, requests: Iterable[Request]) -> Iterator[list[Text]]:
        """See `Engine.sample`."""
        waiting = self._ordered(requests)
        following = next(waiting, None)
        try:
            while following is not None or self._orders:
                while self._orders and self._orders[0].complete:
                    texts = self._orders.popleft().texts
                    yield [texts[sample] for sample in range(len(texts))]
                while following is not None and self._has_room(following):
                    self._admit(following)
                    following = next(waiting, None)
                if self._reading or self._rows:
                    self._keep_company()
                    self._pipeline.step()
                    self._take()
        finally:
            self._leave()

    def _ordered(self, requests: Iterable[Request]) -> Iterator[_Order]:
        """A prompt's tokens are counted without those that the prompt before begins with, too.

        Room is given out in blocks. A prompt's own tokens begin and end within one, and so do a
        text's, which begins with a copy of the block that its prompt ends in.
        """
        of_text = most_tokens(self._parts) + 2 * _BLOCK
        before: Sequence[int] = ()
        for request in requests:
            own = len(request.prompt_ids) - shared_beginning(request.prompt_ids, before)
            yield _Order(request, own + _BLOCK + len(request.seeds) * of_text)
            before = request.prompt_ids

    def _has_room(self, order: _Order) -> bool:
        still_open = [one for one in self._orders if not one.complete]
        if self._reading and not self._rows:
            # Prompts that are read in one step do not find in the cache what they share, unless a
            # text at work holds it there.
            return False
        promised = sum(len(one.request.seeds) for _, one in self._reading)
        rows = len(self._rows) + promised + len(order.request.seeds)
        company = max(0, LEAST_SEQUENCES - rows) * (_COMPANY_TOKENS + _BLOCK)
        tokens = sum(one.tokens for one in still_open) + order.tokens + company
        return not still_open or (rows <= MAX_ROWS and tokens <= self._max_tokens)

    def _admit(self, order: _Order) -> None:
        self._orders.append(order)
        if order.request.seeds:
            reading = self._begin(order.request.prompt_ids, 0, 1, self._eos)
            self._reading.append((reading, order))

    def _take(self) -> None:
        """What the last step has drawn."""
        rows, self._rows = self._rows, []
        for row in rows:
            self._go_on(row)
        reading, self._reading = self._reading, []
        for handle, order in reading:
            if not self._drawn_of(handle):
                self._reading.append((handle, order))
                continue
            for sample in range(len(order.request.seeds)):
                self._write_part(_Row(order, sample))

    def _go_on(self, row: _Row) -> None:
        """Keep the row at work, begin its next part, or put down its text."""
        part, ends = self._parts[row.number], self._ends[row.number]
        new = self._drawn_of(row.handle)
        row.drawn += new
        full = len(row.drawn) >= part.max_new_tokens or any(token in ends for token in new)
        # The pipeline may know an end that we do not.
        ended = full or row.handle.get_status().name != "RUNNING"
        if not ended and not (new and part.is_over(row.drawn)):
            self._rows.append(row)
            return
        if not ended:
            row.handle.stop()
        row.text = part.after(row.text, text_of(row.drawn, ends))
        row.number, row.drawn = row.number + 1, []
        if row.number < len(self._parts):
            self._write_part(row)
        else:
            row.order.texts[row.sample] = row.text

    def _write_part(self, row: _Row) -> None:
        part, request = self._parts[row.number], row.order.request
        row.handle = self._begin(
            (*request.prompt_ids, *row.text.token_ids, *part.opening),
            part_seed(request.seeds[row.sample], row.number),
            part.max_new_tokens,
            self._ends[row.number],
        )
        self._rows.append(row)

    def _drawn_of(self, handle: Any) -> list[int]:
        drawn: list[int] = []
        while handle.can_read():
            for output in handle.read().values():
                drawn += output.generated_ids
        if not drawn and handle.get_status().name == "IGNORED":
            raise ConfigError(
                "room for a prompt and its texts in OpenVINO's cache",
                found=f"room for {self._max_tokens} tokens",
                remedy="Raise machine.kv_cache_gb, or lower prompt.max_tokens.",
            )
        return drawn

    def _keep_company(self) -> None:
        self._company = [one for one in self._company if one.get_status().name == "RUNNING"]
        wanted = LEAST_SEQUENCES - len(self._reading) - len(self._rows)
        while len(self._company) > max(0, wanted):
            self._company.pop().stop()
        while len(self._company) < wanted:
            self._company.append(self._begin([0], 0, _COMPANY_TOKENS, self._eos))

    def _leave(self) -> None:
        """Take everything back, also when nobody asks for the rest."""
        reading = [handle for handle, _ in self._reading]
        for handle in [*reading, *(row.handle for row in self._rows), *self._company]:
            handle.stop()
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
