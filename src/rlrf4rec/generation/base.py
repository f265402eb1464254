"""What every engine takes and gives."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from rlrf4rec.config import GenerationConfig


@dataclass(frozen=True)
class Request:
    """One user's prompt, to be sampled once for each seed.

    Attributes:
        prompt_ids: the prompt's token ids.
        seeds: one a sample, see `sample_seed`.
        written: how many tokens at the prompt's end come after what the engine has read in the call
            before; 0 where all of it is new.
    """

    prompt_ids: Sequence[int]
    seeds: Sequence[int]
    written: int = 0


@dataclass(frozen=True)
class Text:
    """One sampled continuation.

    Attributes:
        token_ids: without the prompt and without the end-of-text token.
        finished: the LLM ended the text itself; False where the token limit cut it.
    """

    token_ids: tuple[int, ...]
    finished: bool


class Engine(Protocol):
    """Samples texts. The same seed gives the same text, whatever else is in the batch."""

    def sample(
        self,
        requests: Sequence[Request],
        settings: GenerationConfig,
        stop_ids: Collection[int] = (),
    ) -> list[list[Text]]:
        """One list of texts a request, in the order of its seeds.

        Args:
            requests: what to write.
            settings: how to sample.
            stop_ids: tokens that end a text beside the model's own end-of-text tokens; the one
                that ended it is left out.
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
    name = f"{run_seed}\0{writer}\0{sample}\0{user_id}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def text_of(ids: Sequence[int], ends: Collection[int]) -> Text:
    """Token ids up to the first of ``ends``; without one, the text was cut."""
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    return Text(tuple(ids if end is None else ids[:end]), end is not None)
