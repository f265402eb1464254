"""Blocks of whole lines: nothing lost, nothing cut, every line with its number."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from rlrf4rec.data import lines
from rlrf4rec.data.lines import first_lines, read_blocks
from rlrf4rec.errors import DataError

TEXT = b"one\ntwo\n\nfour, a longer line\r\nfive\nlast"


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("packed", [False, True])
def test_blocks_of_any_size_hold_the_same_lines(
    tmp_path: Path, block_bytes: int, packed: bool
) -> None:
    path = tmp_path / "file"  # gzip is told from the content, not from the name
    path.write_bytes(gzip.compress(TEXT) if packed else TEXT)
    blocks = list(read_blocks(path, block_bytes))
    assert b"".join(block.data for block in blocks) == TEXT
    assert [line for block in blocks for line in block.lines()] == [
        (1, b"one"),
        (2, b"two"),
        (4, b"four, a longer line"),
        (5, b"five"),
        (6, b"last"),
    ]
    assert b"".join(block.text() for block in blocks).split() == TEXT.split()


def test_first_lines(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT)
    assert first_lines(path, 3) == [b"one", b"two", b"four, a longer line"]
    assert len(first_lines(path, 99)) == 5


def test_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 10)
    path = tmp_path / "file"
    path.write_bytes(b"short\n" + b"x" * 50)
    with pytest.raises(DataError, match="line 2: more than"):
        list(read_blocks(path, 6))
