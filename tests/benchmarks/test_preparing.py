"""The benchmark's ways to prepare a log do the same work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speed import preparations
from speed.generated import write_log

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")


def test_ours_and_pandas_arrive_at_the_same(tmp_path: Path) -> None:
    write_log(tmp_path, 2_000)
    ours, *theirs = [way()(tmp_path) for way in preparations.WAYS.values()]
    assert len(ours.log[0]) > 1_000
    assert len(ours.dropped) == 6  # only times are never missing
    for peer in theirs:
        for mine, other in zip(
            [*ours.log, *ours.histories], [*peer.log, *peer.histories], strict=True
        ):
            np.testing.assert_array_equal(mine, other)
        assert (peer.user_ids, peer.dropped) == (ours.user_ids, ours.dropped)
        assert peer.checksum() == ours.checksum()
