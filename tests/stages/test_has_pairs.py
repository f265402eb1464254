"""Whether a round has anything to learn from."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rlrf4rec.stages.tuning import has_pairs
from rlrf4rec.workspace import Stage, Workspace


def _stage(run: Path, name: str, n_pairs: int) -> Stage:
    frame = pl.DataFrame({"prompt": ["p"] * n_pairs})
    workspace = Workspace(run)
    workspace.create()
    return workspace.stage(name, {}, [], lambda writer: writer.write_frame("pairs.parquet", frame))


@pytest.mark.parametrize(("n_pairs", "enough"), [(0, False), (1, False), (2, True)])
def test_two_pairs_are_the_least(tmp_path: Path, n_pairs: int, enough: bool) -> None:
    pairs = _stage(tmp_path, "round-1/policy-0/pairs", n_pairs)
    assert has_pairs(tmp_path, "round-2/policy-0", pairs) is enough


def test_a_published_run_had_pairs_where_it_was_tuned(tmp_path: Path) -> None:
    pairs = _stage(tmp_path, "round-1/policy-0/pairs", 2)
    (pairs.folder / "pairs.parquet").unlink()
    assert not has_pairs(tmp_path, "round-2/policy-0", pairs)
    _stage(tmp_path, "round-2/policy-0/tuning", 0)
    assert has_pairs(tmp_path, "round-2/policy-0", pairs)
