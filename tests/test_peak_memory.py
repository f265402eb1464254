"""The peak of memory is that of the work since it was reset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlrf4rec import peak_memory
from rlrf4rec.peak_memory import peak_megabytes, reset_peak


def _touch(megabytes: int) -> None:
    np.ones(megabytes * 1_000_000, dtype=np.uint8)


def test_a_peak_is_seen_and_forgotten() -> None:
    if not reset_peak():
        pytest.skip("the system cannot reset a process's peak")
    before = peak_megabytes()
    assert before is not None
    _touch(200)
    peak = peak_megabytes()
    assert peak is not None
    # The allocation itself, on top of what was resident, give or take what others freed.
    assert 150 < peak - before < 300
    assert reset_peak()
    after = peak_megabytes()
    assert after is not None
    assert after < peak - 150


def test_where_the_system_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(peak_memory, "_RESET", tmp_path / "none" / "clear_refs")
    assert not reset_peak()
    assert peak_megabytes() is None
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t    2000 kB\n")
    assert peak_megabytes() == pytest.approx(2.048)
