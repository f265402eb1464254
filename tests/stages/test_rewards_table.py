"""How far a user's texts differ in reward, and whether two halves of the lists agree."""

from __future__ import annotations

import polars as pl
import pytest

from rlrf4rec.stages.rewards_table import _agreement


def _texts(*rows: tuple[int, float | None, float | None, float | None]) -> pl.DataFrame:
    schema = {"user": pl.Int32, "ndcg": pl.Float64, "ndcg_even": pl.Float64, "ndcg_odd": pl.Float64}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def test_within_users_by_hand() -> None:
    """Deviations: reward -1, 1, -3, 3; even -1, 1, -1, 1; odd -1, 1, 1, -1, so no correlation."""
    texts = _texts((0, 1, 1, 1), (0, 3, 3, 3), (1, 10, 0, 5), (1, 16, 2, 3))
    found = _agreement(texts, "ndcg")
    assert found["spread"] == pytest.approx(5**0.5)
    assert found["reliability"] == pytest.approx(0)


def test_halves_that_agree_and_levels_of_users_that_do_not_count() -> None:
    texts = _texts((0, 1, 1, 2), (0, 2, 2, 4), (1, 50, 90, -30), (1, 51, 91, -28))
    assert _agreement(texts, "ndcg")["reliability"] == pytest.approx(1)


def test_single_texts_and_missing_halves_say_nothing() -> None:
    texts = _texts((0, 1, 1, 1), (1, 2, None, 2), (1, 3, None, 3))
    assert _agreement(texts, "ndcg") == {"spread": None, "reliability": None}
