"""A sample's seed: from names alone."""

from __future__ import annotations

import hashlib
from itertools import product

from rlrf4rec.generation.base import part_seed, sample_seed


def test_stable_value() -> None:
    """The first four bytes, big-endian, of SHA-256 of run seed, writer, sample, user with NULs.

    ``printf '0\\0round-0/base\\0003\\000196' | sha256sum`` begins with 0a5675b9.
    """
    assert sample_seed(0, "196", "round-0/base", 3) == 0x0A5675B9
    digest = hashlib.sha256(b"0\0round-0/base\x003\x00196").hexdigest()
    assert digest.startswith("0a5675b9")


def test_every_part_counts() -> None:
    parts = list(product([0, 1], ["196", "22"], ["round-0/base", "round-1/policy-0"], range(5)))
    seeds = {sample_seed(*part) for part in parts}
    assert len(seeds) == len(parts)


def test_parts_do_not_run_together() -> None:
    """A user ``"01"`` of sample 1 is not the user ``"1"`` of sample 10."""
    assert sample_seed(0, "01", "w", 1) != sample_seed(0, "1", "w", 10)
    assert sample_seed(1, "u", "0", 0) != sample_seed(10, "u", "", 0)


def test_fits_every_engine() -> None:
    assert all(0 <= sample_seed(0, f"user {n} é", "w", 0) < 2**32 for n in range(100))


def test_a_part_s_seed_comes_from_the_sample_s() -> None:
    assert part_seed(7, 0) == 7
    seeds = {part_seed(seed, part) for seed in range(50) for part in range(4)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**32 for seed in seeds)
