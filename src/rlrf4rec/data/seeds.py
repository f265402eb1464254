"""Seeds that belong to a user, not to the user's place in a file."""

from __future__ import annotations

import hashlib


def stable_hash(*parts: str | int) -> int:
    """A 64-bit number that depends on the parts alone, the same in every process.

    Python's own `hash` of a string changes from process to process.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        piece = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(piece).to_bytes(8, "big") + piece)  # ("a", "bc") is not ("ab", "c")
    return int.from_bytes(digest.digest(), "big")
