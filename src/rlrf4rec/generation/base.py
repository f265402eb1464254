"""What every engine takes and gives."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from rlrf4rec.config import GenerationConfig


@dataclass(frozen=True)
class Request:
    """One user's prompt, to be sampled once for each seed.

    Attributes:
        prompt_ids: the prompt's token ids.
        seeds: one a sample, see `sample_seed`.
    """

    prompt_ids: Sequence[int]
    seeds: Sequence[int]


@dataclass(frozen=True)
class Text:
    """One sampled continuation.

    Attributes:
        token_ids: without the prompt and without the end-of-text token.
        finished: the LLM ended the text itself; False where the token limit cut it.
    """

    token_ids: tuple[int, ...]
    finished: bool


@dataclass(frozen=True)
class Part:
    """What is written in one go: a whole text, or a line of it (`lines`).

    Attributes:
        max_new_tokens: to be drawn at most.
        opening: tokens that are given, and stand before those that are drawn.
        stop_ids: tokens that end it beside the model's own end-of-text tokens; the one that ended
            it is left out.
    """

    max_new_tokens: int
    opening: tuple[int, ...] = ()
    stop_ids: frozenset[int] = frozenset()

    def is_over(self, token_ids: Sequence[int]) -> bool:
        """Whether nothing that is drawn after these tokens would be kept."""
        return False

    def keep(self, drawn: Text) -> Text:
        """What stays of the tokens that were drawn."""
        return drawn

    def after(self, before: Text, drawn: Text) -> Text:
        """The text so far with this part behind it; finished when each of its parts is."""
        kept = self.keep(drawn)
        return Text(
            (*before.token_ids, *self.opening, *kept.token_ids), before.finished and kept.finished
        )


def most_tokens(parts: Sequence[Part]) -> int:
    """Of a text of these parts."""
    return sum(len(part.opening) + part.max_new_tokens for part in parts)


NOTHING_YET = Text((), finished=True)
"""What a text's first part comes after."""


class Engine(Protocol):
    """Samples texts. The same seed gives the same text, whatever else is in the batch."""

    def sample(
        self,
        requests: Iterable[Request],
        settings: GenerationConfig,
        parts: Sequence[Part],
    ) -> Iterator[list[Text]]:
        """One list of texts a request, in the order of the requests and of their seeds.

        Nothing is written before the first list is asked for.

        Args:
            requests: what to write; taken as far as there is room for it.
            settings: how to sample; how much is for the parts to say.
            parts: of each text, at least one, written one after another with seeds of their own
                (`part_seed`).
        """
        ...


def sample_seed(run_seed: int, user_id: str, writer: str, sample: int) -> int:
    """The seed of a user's sample: 32 bits, from names only, so that order does not matter.

    Args:
        run_seed: the configuration's seed.
        user_id: the log's own id.
        writer: which policy in which round, such as ``round-1/policy-0``.
        sample: the sample's number.
    """
    return _seed_of(f"{run_seed}\0{writer}\0{sample}\0{user_id}")


def part_seed(seed: int, part: int) -> int:
    """The seed of a sample's part, 32 bits; part 0 keeps the sample's own."""
    return _seed_of(f"{seed}\0{part}") if part else seed


def _seed_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def shared_beginning(first: Sequence[object], second: Sequence[object]) -> int:
    """How many tokens, or characters, both begin with."""
    alike = takewhile(lambda both: both[0] == both[1], zip(first, second, strict=False))
    return sum(1 for _ in alike)


def text_of(ids: Sequence[int], ends: Collection[int]) -> Text:
    """Token ids up to the first of ``ends``; without one, the text was cut."""
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    return Text(tuple(ids if end is None else ids[:end]), end is not None)
