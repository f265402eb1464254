"""Large text files, gzipped or plain, in blocks of whole lines: memory stays bounded."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rlrf4rec.data.raw import require_file
from rlrf4rec.errors import DataError

BLOCK_BYTES = 1 << 25
# No published record comes near; a file without line ends must not fill the memory.
MAX_LINE_BYTES = 1 << 27

GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Some whole lines of a file.

    Attributes:
        path: the file.
        first_line: the file's number of the first line, from 1.
        data: the lines, with their ends.
    """

    path: Path
    first_line: int
    data: bytes

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Every line that is not blank, with its number in the file, without its end."""
        for number, line in enumerate(self.data.split(b"\n"), self.first_line):
            stripped = line.strip()
            if stripped:
                yield number, stripped

    def text(self) -> bytes:
        """The lines with their ends, blank ones left out."""
        if b"\n\n" in self.data or b"\n\r\n" in self.data or self.data[:1].isspace():
            return b"".join(line + b"\n" for _, line in self.lines())
        return self.data

    def broken(self, number: int, line: bytes, expected: str, why: str) -> DataError:
        """The error for a line that is not what it should be."""
        shown = line[:80].decode("utf-8", "replace") + ("..." if len(line) > 80 else "")
        return DataError(
            f"{expected} in every line",
            found=f"{self.path}, line {number}: {why}: {shown!r}",
            remedy="Mend or remove the line, or download the file again: it may be cut short.",
        )


def read_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Read a file in blocks of about ``block_bytes``; gzip is known by its first bytes.

    Raises:
        DataError: no such file, a broken or cut gzip file, or a line of more than 128 MiB.
    """
    require_file(path)
    try:
        with _open(path) as file:
            yield from _blocks(path, file, block_bytes)
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(
            "a complete text file or gzip file",
            found=f"{path}: {error}",
            remedy="Download the file again: it was probably cut short.",
        ) from error


def first_lines(path: Path, count: int) -> list[bytes]:
    """The first ``count`` lines that are not blank, without their ends; fewer if there are fewer.

    Raises:
        DataError: see `read_blocks`; or no such line.
    """
    lines: list[bytes] = []
    for block in read_blocks(path, block_bytes=1 << 16):
        lines += [line for _, line in block.lines()]
        if len(lines) >= count:
            break
    if not lines:
        raise DataError(
            f"at least one line in {path}",
            found="an empty file",
            remedy="Check that the file was downloaded completely.",
        )
    return lines[:count]


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    return gzip.open(path, "rb") if packed else path.open("rb")


def _blocks(path: Path, file: BinaryIO | gzip.GzipFile, block_bytes: int) -> Iterator[Block]:
    number = 1
    pieces: list[bytes] = []  # of a line whose end has not been read yet
    while chunk := file.read(block_bytes):
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            pieces.append(chunk)
            if sum(map(len, pieces)) > MAX_LINE_BYTES:
                raise _endless_line(path, number)
            continue
        data = b"".join([*pieces, chunk[:cut]])
        pieces = [chunk[cut:]]
        yield Block(path, number, data.removeprefix(BOM) if number == 1 else data)
        number += data.count(b"\n")
    rest = b"".join(pieces)
    if rest:
        yield Block(path, number, rest.removeprefix(BOM) if number == 1 else rest)


def _endless_line(path: Path, number: int) -> DataError:
    return DataError(
        "one record in every line",
        found=f"{path}, line {number}: more than {MAX_LINE_BYTES >> 20} MiB without a line end",
        remedy="Take the file as it is published.",
    )
