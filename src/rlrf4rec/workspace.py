"""A run's folder: what is finished, what is stale, and one writer at a time.

Stages meet in files. A stage writes into a folder beside its final place and the folder is renamed
when it is complete, with `stage.json` in it: the stage's key and the size and checksum of every
file. The key is made of the settings and the keys of the stages that it depends on, so a changed
setting makes exactly what depends on it stale. A file that does not match its checksum makes the
stage unfinished: it is computed again, never used.

A long stage writes shards into its unfinished folder; each shard is renamed into place, so a killed
run loses one shard at most. The unfinished folder carries the key in its name: shards of other
settings are never picked up.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from safetensors import SafetensorError

from rlrf4rec.errors import FULL_DISK, WorkspaceError
from rlrf4rec.peak_memory import peak_megabytes, reset_peak

FORMAT_VERSION = 1

_MARKER = "run.json"
_RUST_OS_ERROR = re.compile(r"\(os error (\d+)\)")

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


@dataclass(frozen=True)
class Stage:
    """A finished stage.

    Attributes:
        folder: where its outputs are.
        key: fingerprint of everything the outputs depend on.
        seconds: time spent, over all attempts; one that was killed outright leaves no time behind.
        peak_mb: the process's peak of memory in the last attempt, in 10^6 bytes; None: not known.
    """

    folder: Path
    key: str
    seconds: float
    peak_mb: float | None = None

    def frame(self, name: str) -> pl.DataFrame:
        """The Parquet table ``name`` of this stage.

        Raises:
            WorkspaceError: it is missing or damaged.
        """
        return read_frame(
            self.folder / name,
            "a finished stage's table",
            remedy="Copy the run's folder again, or run it again: rlrf4rec run CONFIG",
        )


@dataclass
class StageWriter:
    """The unfinished folder of a stage that is being computed."""

    folder: Path

    def write_frame(self, name: str, frame: pl.DataFrame) -> None:
        """Write a Parquet table and rename it into place."""
        self.write(name, frame.write_parquet)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file and rename it into place."""
        self.write(name, lambda path: Path(path).write_text(text, encoding="utf-8"))

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """Let ``write`` fill a file beside ``name``, then rename it into place."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_aside(target, write)

    def has(self, name: str) -> bool:
        """Whether a shard was written by an earlier attempt with the same key."""
        return (self.folder / name).exists()


class Workspace:
    """A run folder.

    Args:
        folder: created when missing.
        replay: take the LLM's stages as they lie, even without the files that are not read again
            (adapters, prompts), and refuse to compute them anew. For evaluating published texts.
        siblings: run folders whose finished stages are taken over where the keys agree, instead of
            being computed again; they need not exist.

    Raises:
        WorkspaceError: the folder is of another format version, or is not a run folder.
    """

    def __init__(
        self, folder: Path | str, *, replay: bool = False, siblings: Sequence[Path] = ()
    ) -> None:
        self.folder = Path(folder)
        self.replay = replay
        self.siblings = tuple(siblings)
        with readable_os_errors(self.folder):
            self._check_version()

    def _check_version(self) -> None:
        marker = self.folder / _MARKER
        if self.folder.is_file():
            raise WorkspaceError(
                "a run's folder", found=f"{self.folder} is a file", remedy="Name its folder."
            )
        if marker.exists():
            try:
                version = json.loads(marker.read_text(encoding="utf-8"))["format_version"]
            except (ValueError, KeyError, TypeError, OSError) as error:
                raise WorkspaceError(
                    "a readable run.json",
                    found=f"{marker}: {error}",
                    remedy=f'Write {{"format_version": {FORMAT_VERSION}}} into it, which is all '
                    "that it holds, or name another folder.",
                ) from error
            if version != FORMAT_VERSION:
                raise WorkspaceError(
                    f"a run folder of format {FORMAT_VERSION}",
                    found=f"{marker}: format {version}",
                    remedy="Run into a new folder, or use the version that wrote this one.",
                )
        elif self.folder.exists() and {entry.name for entry in self.folder.iterdir()} - {
            "lock",
            _aside(marker).name,  # of a run that found the disk full
        }:
            raise WorkspaceError(
                "a run folder or an empty one",
                found=f"{self.folder} holds other files and no run.json",
                remedy="Name another folder.",
            )

    def create(self) -> None:
        """Make the folder and mark it with the format version."""
        with readable_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / _MARKER).exists():
                write_json(self.folder / _MARKER, {"format_version": FORMAT_VERSION})

    def require_run(self) -> None:
        """Refuse a folder that no run has written to."""
        if not (self.folder / _MARKER).exists():
            raise WorkspaceError(
                "a run folder",
                found=f"no run.json in {self.folder}",
                remedy="Make one with: rlrf4rec run CONFIG",
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one writer; the system frees it when the process dies.

        Raises:
            WorkspaceError: another process holds it.
        """
        self.create()
        with lock_folder(self.folder):
            yield

    def finished(self, name: str, key: str, *, replayable: bool = False) -> Stage | None:
        """The stage if it is there, has this key and is whole; otherwise None.

        In a replay, files may be missing of what cannot be computed there.
        """
        folder = self.folder / name
        record = read_json(folder / "stage.json")
        stage = _recorded(folder, record)
        files = record.get("files") if isinstance(record, dict) else None
        if stage is None or stage.key != key or not isinstance(files, dict):
            return None
        for file, facts in files.items():
            absent = self.replay and not replayable and not (folder / file).exists()
            if not absent and not _matches(folder / file, facts):
                return None
        return stage

    def stage(
        self,
        name: str,
        settings: Mapping[str, object],
        needs: list[Stage],
        work: Callable[[StageWriter], None],
        *,
        replayable: bool = False,
        given: bool = False,
    ) -> Stage:
        """Return the finished stage, doing ``work`` first if it is missing, stale or broken.

        Args:
            name: the stage's folder in the run, for example ``round-0/samples``.
            settings: plain values that the outputs depend on.
            needs: the stages that ``work`` reads.
            work: fills the writer's folder; shards that an earlier, killed attempt left are there.
            replayable: may be computed in a replay too.
            given: what all others were made of; in a replay, another one is refused.

        Raises:
            WorkspaceError: the disk is full or not writable, or a replay lacks the stage.
        """
        key = fingerprint(
            {
                "format": FORMAT_VERSION,
                "name": name,
                "settings": settings,
                "needs": [stage.key for stage in needs],
            }
        )
        done = self.finished(name, key, replayable=replayable)
        if done is not None:
            return done
        before = read_stage(self.folder / name)
        replaced = given and before is not None and before.key != key
        if self.replay and (replaced or not replayable):
            raise WorkspaceError(
                f"the finished stage {name} of the run's own settings",
                found=f"{'another' if replaced else 'none'} in {self.folder}",
                remedy="Use the run's own config.yaml and data, or run it: rlrf4rec run CONFIG",
            )
        final = self.folder / name
        unfinished = final.with_name(f".{final.name}-{key[:12]}")
        with readable_os_errors(self.folder):
            borrowed = self._borrow(name, key)
            if borrowed is not None:
                return borrowed
            _drop_other_attempts(final, keep=unfinished)
            unfinished.mkdir(parents=True, exist_ok=True)
            # Whole, if an attempt was killed just before it could rename it.
            sealed = self.finished(str(unfinished.relative_to(self.folder)), key)
            done = sealed or _run_and_seal(unfinished, key, work)
            if final.exists():
                shutil.rmtree(final)
            os.replace(unfinished, final)
        return replace(done, folder=final)

    def _borrow(self, name: str, key: str) -> Stage | None:
        """Take over the stage from the first sibling that has finished it under this key.

        The files become hard links: a finished stage's file is replaced, never written to, so
        neither run can change the other's. Renamed into place as a whole, like any stage.
        """
        final = self.folder / name
        aside = final.with_name(f".borrowing-{final.name}")
        for sibling in self.siblings:
            stage = Workspace(sibling).finished(name, key)
            if stage is None:
                continue
            shutil.rmtree(aside, ignore_errors=True)  # of an attempt that was killed
            _link_files(stage.folder, aside)
            if final.exists():
                shutil.rmtree(final)
            os.replace(aside, final)
            _drop_other_attempts(final, keep=None)
            return replace(stage, folder=final)
        return None


def read_stage(folder: Path) -> Stage | None:
    """A finished stage by its record alone: neither its key nor its files are checked."""
    return _recorded(folder, read_json(folder / "stage.json"))


def _recorded(folder: Path, record: JsonValue) -> Stage | None:
    if not isinstance(record, dict):
        return None
    key, seconds, peak = (record.get(name) for name in ("key", "seconds", "peak_mb"))
    if not isinstance(key, str) or not isinstance(seconds, (int, float)):
        return None
    return Stage(
        folder, key, float(seconds), float(peak) if isinstance(peak, (int, float)) else None
    )


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold an existing folder for one writer; the system frees it when the process dies.

    Raises:
        WorkspaceError: another process holds it, or it cannot be written to.
    """
    with readable_os_errors(folder):
        handle = (folder / "lock").open("a+")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise WorkspaceError(
                "a run folder that nobody else writes to",
                found=f"{folder} is in use by process {holder}",
                remedy="Wait for that run to end, or name another folder with --output.",
            ) from error
        with readable_os_errors(folder):
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
        yield


def fingerprint(value: object) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read_frame(path: Path, expected: str, *, remedy: str) -> pl.DataFrame:
    """A Parquet table of a run.

    Raises:
        WorkspaceError: it is missing or damaged.
    """
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise WorkspaceError(
            expected, found=f"{path}: {type(error).__name__}", remedy=remedy
        ) from error


def write_json(path: Path, value: object) -> None:
    """Write JSON beside ``path`` and rename it into place."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> JsonValue:
    """The file's value; None when it is missing or broken."""
    try:
        value: JsonValue = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, flush it to the disk and rename it into place."""
    aside = _aside(path)
    write(aside)
    flush(aside)
    os.replace(aside, path)


def flush(path: Path) -> None:
    """Force a file to the disk, so that a rename cannot come before its content."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


@contextmanager
def readable_os_errors(folder: Path, elsewhere: str = "with --output") -> Iterator[None]:
    """Turn a full or read-only disk into an error that says so, and where else to write.

    Raises:
        WorkspaceError: in place of the system's error.
    """
    try:
        yield
    except (OSError, pl.exceptions.PolarsError, SafetensorError) as error:
        number = _errno(error)
        reason = os.strerror(number) if number else ""
        if number in FULL_DISK:
            raise WorkspaceError(
                "room on the disk",
                found=f"{reason} while writing to {folder}",
                remedy=f"Free some space, or name another folder {elsewhere}, and run again: "
                "finished work is kept.",
            ) from error
        if number in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
            raise WorkspaceError(
                "a folder that can be written to",
                found=f"{reason}: {getattr(error, 'filename', None) or folder}",
                remedy=f"Name another folder {elsewhere}.",
            ) from error
        raise


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    # Polars and safetensors write from Rust and raise their own errors, which name the system's.
    found = _RUST_OS_ERROR.search(str(error))
    return int(found[1]) if found else None


def _aside(path: Path) -> Path:
    return path.with_name(f".writing-{path.name}")


def _run_and_seal(unfinished: Path, key: str, work: Callable[[StageWriter], None]) -> Stage:
    (unfinished / "stage.json").unlink(missing_ok=True)
    known = reset_peak()
    seconds = _run_timed(unfinished, work)
    done = Stage(unfinished, key, seconds, peak_megabytes() if known else None)
    _seal(done)
    return done


def _run_timed(unfinished: Path, work: Callable[[StageWriter], None]) -> float:
    # Seconds of killed attempts are kept beside their shards: the stage's time is all that it took.
    clock = unfinished / ".seconds.json"
    spent = read_json(clock)
    before = float(spent) if isinstance(spent, (int, float)) else 0.0
    start = time.monotonic()
    try:
        work(StageWriter(unfinished))
    finally:
        elapsed = before + time.monotonic() - start
        if unfinished.exists():
            write_json(clock, elapsed)
    clock.unlink()
    return elapsed


def _seal(stage: Stage) -> None:
    folder = stage.folder
    for leftover in folder.rglob(".writing-*"):
        leftover.unlink()
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    facts = {"key": stage.key, "seconds": stage.seconds, "peak_mb": stage.peak_mb}
    write_json(folder / "stage.json", {**facts, "files": files})


def _link_files(stage: Path, folder: Path) -> None:
    """The files that a finished stage's record names, and the record itself."""
    record = read_json(stage / "stage.json")
    assert isinstance(record, dict) and isinstance(record["files"], dict)
    for name in [*record["files"], "stage.json"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(stage / name, folder / name)
        except OSError:  # a file system without hard links, or another one
            shutil.copyfile(stage / name, folder / name)
            flush(folder / name)


def _drop_other_attempts(final: Path, keep: Path | None) -> None:
    if final.parent.exists():
        for other in final.parent.glob(f".{final.name}-*"):
            suffix = other.name.removeprefix(f".{final.name}-")
            if other != keep and len(suffix) == 12:
                shutil.rmtree(other)


def _matches(path: Path, facts: JsonValue) -> bool:
    if not isinstance(facts, dict):
        return False
    try:
        return path.stat().st_size == facts.get("bytes") and _sha256(path) == facts.get("sha256")
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
