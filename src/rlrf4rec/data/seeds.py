"""Seeds that belong to a user, not to the user's place in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def stable_hash(*parts: str | int) -> int:
    """A 64-bit number that depends on the parts alone, the same in every process.

    Python's own `hash` of a string changes from process to process.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        piece = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(piece).to_bytes(8, "big") + piece)  # ("a", "bc") is not ("ab", "c")
    return int.from_bytes(digest.digest(), "big")


def sample_ids(ids: Iterable[str], size: int, seed: int) -> list[str]:
    """A seeded sample of ``size`` ids, or all of them if there are no more.

    Chosen by each id's own hash: neither their order nor the other ids matter, and a larger sample
    holds the smaller.
    """
    return sorted(ids, key=lambda name: (stable_hash(seed, name), name))[:size]
