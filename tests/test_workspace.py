"""A run folder: what is done again and what is not, after changes, damage, kills and full disks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rlrf4rec.errors import WorkspaceError
from rlrf4rec.workspace import (
    FORMAT_VERSION,
    Stage,
    StageWriter,
    Workspace,
    fingerprint,
    readable_os_errors,
)

Work = Callable[[StageWriter], None]


class Killed(Exception):
    pass


class Counted:
    """Writes two files and counts how often it was asked to."""

    def __init__(self, text: str = "hello") -> None:
        self.text = text
        self.times = 0

    def __call__(self, writer: StageWriter) -> None:
        self.times += 1
        writer.write_text("notes/a.txt", self.text)
        writer.write_frame("table.parquet", pl.DataFrame({"x": [1, 2, 3]}))


@pytest.fixture
def run(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "run")
    workspace.create()
    return workspace


def _files(workspace: Workspace) -> set[str]:
    return {
        str(path.relative_to(workspace.folder))
        for path in workspace.folder.rglob("*")
        if path.is_file()
    }


def _python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in another process; its kill or its limits are not ours."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


class TestStages:
    def test_output_is_where_its_name_says(self, run: Workspace) -> None:
        stage = run.stage("round-0/samples", {"a": 1}, [], Counted())
        assert _files(run) == {
            "run.json",
            "round-0/samples/notes/a.txt",
            "round-0/samples/table.parquet",
            "round-0/samples/stage.json",
        }
        assert stage.frame("table.parquet")["x"].to_list() == [1, 2, 3]
        assert stage.seconds >= 0
        # More than the interpreter alone, where the system tells.
        assert stage.peak_mb is None or stage.peak_mb > 5

    def test_a_stage_of_before_peaks_were_kept_is_finished(self, run: Workspace) -> None:
        first = run.stage("a", {}, [], Counted())
        record = json.loads((first.folder / "stage.json").read_text())
        del record["peak_mb"]
        (first.folder / "stage.json").write_text(json.dumps(record))
        assert run.finished("a", first.key) == replace(first, peak_mb=None)

    def test_finished_is_not_redone(self, run: Workspace) -> None:
        work = Counted()
        first = run.stage("a", {"n": 1}, [], work)
        # Another process, later: nothing is kept in memory.
        assert Workspace(run.folder).stage("a", {"n": 1}, [], work) == first
        assert work.times == 1

    def test_changed_setting_is_redone(self, run: Workspace) -> None:
        work = Counted()
        first = run.stage("a", {"n": 1}, [], work)
        second = run.stage("a", {"n": 2}, [], work)
        assert work.times == 2
        assert first.key != second.key

    def test_order_of_settings_does_not_matter(self, run: Workspace) -> None:
        work = Counted()
        run.stage("a", {"n": 1, "m": Path("x")}, [], work)
        run.stage("a", {"m": Path("x"), "n": 1}, [], work)
        assert work.times == 1

    def test_changed_need_is_redone_all_the_way_down(self, run: Workspace) -> None:
        works = [Counted() for _ in range(4)]

        def chain(setting: int) -> Stage:
            data = run.stage("data", {"n": setting}, [], works[0])
            other = run.stage("other", {}, [], works[3])
            middle = run.stage("middle", {}, [data], works[1])
            return run.stage("end", {}, [other, middle], works[2])

        chain(1)
        chain(1)
        chain(2)
        assert [work.times for work in works] == [2, 2, 2, 1]

    def test_same_settings_under_another_name_are_another_stage(self, run: Workspace) -> None:
        assert run.stage("a", {}, [], Counted()).key != run.stage("b", {}, [], Counted()).key

    @pytest.mark.parametrize("damage", ["truncate", "alter", "delete", "record", "no record"])
    def test_damaged_output_is_recomputed(self, run: Workspace, damage: str) -> None:
        work = Counted()
        stage = run.stage("a", {}, [], work)
        note, record = stage.folder / "notes/a.txt", stage.folder / "stage.json"
        if damage == "truncate":
            os.truncate(note, 2)
        elif damage == "alter":
            note.write_text("jello", encoding="utf-8")  # as long as before
        elif damage == "delete":
            note.unlink()
        elif damage == "record":
            os.truncate(record, 20)
        else:
            record.unlink()
        again = run.stage("a", {}, [], work)
        assert work.times == 2
        assert (again.folder / "notes/a.txt").read_text(encoding="utf-8") == "hello"
        run.stage("a", {}, [], work)
        assert work.times == 2

    def test_stale_output_stays_until_the_new_one_is_whole(self, run: Workspace) -> None:
        stage = run.stage("a", {"n": 1}, [], Counted("old"))

        def fail(writer: StageWriter) -> None:
            writer.write_text("notes/a.txt", "new")
            raise Killed

        with pytest.raises(Killed):
            run.stage("a", {"n": 2}, [], fail)
        assert (stage.folder / "notes/a.txt").read_text(encoding="utf-8") == "old"
        assert run.stage("a", {"n": 1}, [], fail) == stage

    def test_a_file_that_was_not_finished_is_no_output(self, run: Workspace) -> None:
        def work(writer: StageWriter) -> None:
            def half(path: Path) -> None:
                path.write_text("half", encoding="utf-8")
                raise Killed

            with pytest.raises(Killed):
                writer.write("b.txt", half)
            assert not writer.has("b.txt")
            writer.write_text("a.txt", "whole")

        run.stage("a", {}, [], work)
        assert _files(run) == {"run.json", "a/a.txt", "a/stage.json"}

    def test_fingerprint_is_stable(self) -> None:
        """SHA-256 of ``{"a": [1, "\\u00e9"]}``: a new key would make every old run stale."""
        assert fingerprint({"a": [1, "é"]}) == (
            "9581baeec64bddcc16d6b51a0e4f0c84335fd5ff228f0c85ea08e765a99fa1ca"
        )


class Shards:
    """Four shards; stops after some of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.wrote: list[str] = []

    def __call__(self, writer: StageWriter) -> None:
        for number in range(4):
            name = f"shard-{number}.txt"
            if writer.has(name):
                continue
            if len(self.wrote) == self.stop_after:
                raise Killed
            writer.write_text(name, str(number))
            self.wrote.append(name)


# Writes two of four shards and half of a third, then is killed as by the system's memory killer.
KILLED_RUN = """
import os, signal, sys
from rlrf4rec.workspace import Workspace

def work(writer):
    writer.write_text("shard-0.txt", "0")
    writer.write_text("shard-1.txt", "1")
    def half(path):
        path.write_text("ha")
        os.kill(os.getpid(), signal.SIGKILL)
    writer.write("shard-2.txt", half)

workspace = Workspace(sys.argv[1])
with workspace.lock():
    workspace.stage("round-0/samples", {"seed": 1}, [], work)
"""


class TestResuming:
    def test_shards_of_a_failed_attempt_are_found(self, run: Workspace) -> None:
        with pytest.raises(Killed):
            run.stage("a", {"seed": 1}, [], Shards(stop_after=1))
        second = Shards(stop_after=2)
        with pytest.raises(Killed):
            run.stage("a", {"seed": 1}, [], second)
        third = Shards()
        stage = run.stage("a", {"seed": 1}, [], third)
        assert second.wrote == ["shard-1.txt", "shard-2.txt"]
        assert third.wrote == ["shard-3.txt"]
        assert "".join(path.read_text() for path in sorted(stage.folder.glob("shard-*"))) == "0123"

    def test_shards_of_other_settings_are_not(self, run: Workspace) -> None:
        with pytest.raises(Killed):
            run.stage("a", {"seed": 1}, [], Shards(stop_after=1))
        other = Shards()
        run.stage("a", {"seed": 2}, [], other)
        assert len(other.wrote) == 4
        # They are gone, too: they would fill the disk with every change of a setting.
        assert not list(run.folder.glob(".a-*"))

    def test_shards_of_a_stage_with_a_longer_name_are_left_alone(self, run: Workspace) -> None:
        with pytest.raises(Killed):
            run.stage("pairs-random", {}, [], Shards(stop_after=3))
        run.stage("pairs", {}, [], Counted())
        rest = Shards()
        run.stage("pairs-random", {}, [], rest)
        assert rest.wrote == ["shard-3.txt"]

    def test_killed_process(self, tmp_path: Path) -> None:
        killed = _python(KILLED_RUN, tmp_path / "run")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        workspace = Workspace(tmp_path / "run")
        rest = Shards()
        with workspace.lock():  # the dead process holds it no more
            stage = workspace.stage("round-0/samples", {"seed": 1}, [], rest)
        assert rest.wrote == ["shard-2.txt", "shard-3.txt"]
        assert _files(workspace) == {
            "run.json",
            "lock",
            "round-0/samples/stage.json",
            *(f"round-0/samples/shard-{number}.txt" for number in range(4)),
        }
        assert workspace.finished("round-0/samples", stage.key) == stage

    def test_killed_between_sealing_and_renaming(self, run: Workspace) -> None:
        """The unfinished folder is complete then: it is taken as it is, not computed again."""
        script = """
import os, shutil, signal, sys
from rlrf4rec.workspace import Workspace

shutil.rmtree = lambda *arguments, **keywords: os.kill(os.getpid(), signal.SIGKILL)
Workspace(sys.argv[1]).stage("a", {"n": 2}, [], lambda w: w.write_text("notes/a.txt", "new"))
"""
        run.stage("a", {"n": 1}, [], Counted("old"))
        assert _python(script, run.folder).returncode == -signal.SIGKILL
        work = Counted()
        stage = run.stage("a", {"n": 2}, [], work)
        assert work.times == 0
        assert (stage.folder / "notes/a.txt").read_text(encoding="utf-8") == "new"
        assert run.finished("a", stage.key) == stage

    def test_a_sealed_attempt_that_was_damaged_is_computed_again(self, run: Workspace) -> None:
        stage = run.stage("a", {}, [], Counted())
        unfinished = run.folder / f".a-{stage.key[:12]}"
        stage.folder.rename(unfinished)
        os.truncate(unfinished / "table.parquet", 3)
        work = Counted()
        again = run.stage("a", {}, [], work)
        assert work.times == 1
        assert run.finished("a", again.key) == again

    def test_time_of_failed_attempts_counts(self, run: Workspace) -> None:
        with pytest.raises(Killed):
            run.stage("a", {}, [], Shards(stop_after=1))
        (clock,) = run.folder.glob(".a-*/.seconds.json")
        clock.write_text("100.0", encoding="utf-8")
        assert 100 <= run.stage("a", {}, [], Shards()).seconds < 160


class TestLock:
    def test_second_process_is_refused(self, tmp_path: Path) -> None:
        holder = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys\nfrom rlrf4rec.workspace import Workspace\n"
                "with Workspace(sys.argv[1]).lock():\n"
                "    print('held', flush=True)\n    sys.stdin.read()",
                str(tmp_path / "run"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        workspace = Workspace(tmp_path / "run")
        with pytest.raises(WorkspaceError, match=f"in use by process {holder.pid}"):
            workspace.lock().__enter__()
        holder.communicate("")
        with workspace.lock():
            assert (workspace.folder / "lock").read_text() == str(os.getpid())

    def test_folder_that_cannot_be_written_to(
        self, run: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a read-only file system, which root, too, cannot write to."""
        own_open = Path.open

        def refuse(path: Path, *arguments: Any) -> Any:
            if path.name == "lock":
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return own_open(path, *arguments)

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(WorkspaceError, match=r"Read-only file system: .*lock"), run.lock():
            pass

    def test_freed_after_an_error(self, run: Workspace) -> None:
        with pytest.raises(Killed), run.lock():
            raise Killed
        with run.lock():
            pass


# A stage that is done, then one whose writing the disk refuses.
FULL_DISK_RUN = """
import resource, sys
import numpy as np, polars as pl
from safetensors.numpy import save_file
from rlrf4rec.errors import WorkspaceError
from rlrf4rec.workspace import Workspace

big = np.random.default_rng(0).random(100_000)
kinds = {
    "text": lambda w: w.write_text("big", "x" * 200_000),
    "table": lambda w: w.write_frame("big", pl.DataFrame({"x": big})),
    "tensors": lambda w: w.write("big", lambda path: save_file({"x": big}, path)),
}

def work(writer):
    writer.write_text("shard-0.txt", "0")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    kinds[sys.argv[2]](writer)

workspace = Workspace(sys.argv[1])
workspace.stage("early", {}, [], lambda writer: writer.write_text("a", "kept"))
try:
    workspace.stage("late", {}, [], work)
except WorkspaceError as error:
    print(error)
"""


class TestFullDisk:
    @pytest.mark.parametrize("kind", ["text", "table", "tensors"])
    def test_says_so_and_keeps_what_is_done(self, run: Workspace, kind: str) -> None:
        """A limit on the size of files stands in for the disk: the same errors, no root needed."""
        found = _python(FULL_DISK_RUN, run.folder, kind)
        assert found.stdout.startswith("expected room on the disk"), found.stderr
        assert "finished work is kept" in found.stdout
        early = Counted()
        run.stage("early", {}, [], early)
        assert early.times == 0
        shards = Shards()
        stage = run.stage("late", {}, [], shards)
        assert shards.wrote == ["shard-1.txt", "shard-2.txt", "shard-3.txt"]
        assert not (stage.folder / "big").exists()
        assert not list(stage.folder.glob(".*"))

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_no_space_left_on_the_device(self, run: Workspace) -> None:
        def work(writer: StageWriter) -> None:
            (writer.folder / ".writing-big").symlink_to("/dev/full")
            writer.write_frame("big", pl.DataFrame({"x": range(1000)}))

        with pytest.raises(WorkspaceError, match="No space left on device while writing"):
            run.stage("a", {}, [], work)

    def test_full_from_the_start(self, tmp_path: Path) -> None:
        """What is left of the marker must not make the folder look like somebody else's."""
        script = """
import resource, sys
from rlrf4rec.errors import WorkspaceError
from rlrf4rec.workspace import Workspace

resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
try:
    Workspace(sys.argv[1]).create()
except WorkspaceError as error:
    print(error)
"""
        assert "room on the disk" in _python(script, tmp_path / "run").stdout
        Workspace(tmp_path / "run").create()
        Workspace(tmp_path / "run").require_run()

    def test_other_errors_stay_what_they_are(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), readable_os_errors(tmp_path):
            (tmp_path / "missing").read_text(encoding="utf-8")
        with pytest.raises(pl.exceptions.PolarsError), readable_os_errors(tmp_path):
            pl.DataFrame({"a": [1]}).select("b")


class TestFolders:
    def test_creating_twice_is_one_run(self, run: Workspace) -> None:
        run.stage("a", {}, [], Counted())
        before = (run.folder / "run.json").read_bytes()
        run.create()
        assert (run.folder / "run.json").read_bytes() == before
        assert json.loads(before)["format_version"] == FORMAT_VERSION

    def test_other_format(self, run: Workspace) -> None:
        (run.folder / "run.json").write_text('{"format_version": 99}', encoding="utf-8")
        with pytest.raises(WorkspaceError, match="format 99"):
            Workspace(run.folder)

    @pytest.mark.parametrize("content", ["", "[]", "{}", "{"])
    def test_unreadable_marker(self, run: Workspace, content: str) -> None:
        (run.folder / "run.json").write_text(content, encoding="utf-8")
        with pytest.raises(WorkspaceError, match=r"a readable run\.json"):
            Workspace(run.folder)

    def test_foreign_folder_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("dear", encoding="utf-8")
        with pytest.raises(WorkspaceError, match="holds other files"):
            Workspace(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_file_instead_of_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("", encoding="utf-8")
        with pytest.raises(WorkspaceError, match=r"run is a file"):
            Workspace(tmp_path / "run")
        with pytest.raises(WorkspaceError, match="a folder that can be written to"):
            Workspace(tmp_path / "run" / "inside").create()

    def test_looking_does_not_create(self, tmp_path: Path) -> None:
        workspace = Workspace(tmp_path / "run")
        with pytest.raises(WorkspaceError, match="rlrf4rec run"):
            workspace.require_run()
        assert not workspace.folder.exists()


class TestReplay:
    def test_takes_what_is_there(self, run: Workspace) -> None:
        """Published runs leave out what is not read again, such as adapters."""
        stage = run.stage("a", {}, [], Counted())
        (stage.folder / "notes/a.txt").unlink()
        work = Counted()
        assert Workspace(run.folder, replay=True).stage("a", {}, [], work) == stage
        assert work.times == 0

    def test_refuses_altered_files(self, run: Workspace) -> None:
        stage = run.stage("a", {}, [], Counted())
        (stage.folder / "notes/a.txt").write_text("jello", encoding="utf-8")
        with pytest.raises(WorkspaceError, match="finished stage a "):
            Workspace(run.folder, replay=True).stage("a", {}, [], Counted())

    def test_computes_only_what_may_be_replayed(self, run: Workspace) -> None:
        replay = Workspace(run.folder, replay=True)
        work = Counted()
        with pytest.raises(WorkspaceError, match="finished stage a "):
            replay.stage("a", {}, [], work)
        assert work.times == 0
        replay.stage("evaluation", {}, [], work, replayable=True)
        assert work.times == 1

    def test_computes_again_what_has_lost_a_file(self, run: Workspace) -> None:
        stage = run.stage("evaluation", {}, [], Counted())
        (stage.folder / "notes/a.txt").unlink()
        work = Counted()
        Workspace(run.folder, replay=True).stage("evaluation", {}, [], work, replayable=True)
        assert work.times == 1
        assert (stage.folder / "notes/a.txt").exists()

    def test_what_all_was_made_of_is_not_replaced(self, run: Workspace) -> None:
        made = run.stage("data", {"n": 1}, [], Counted(), given=True)
        replay = partial(Workspace(run.folder, replay=True).stage, replayable=True, given=True)
        work = Counted()
        with pytest.raises(WorkspaceError, match="found another in"):
            replay("data", {"n": 2}, [], work)
        assert (work.times, replay("data", {"n": 1}, [], work)) == (0, made)
        shutil.rmtree(made.folder)  # as in a published run
        replay("data", {"n": 2}, [], work)
        assert work.times == 1

    def test_a_table_that_is_missing_is_named(self, run: Workspace) -> None:
        with pytest.raises(WorkspaceError, match=r"gone\.parquet"):
            run.stage("a", {}, [], Counted()).frame("gone.parquet")

    def test_refuses_other_settings(self, run: Workspace) -> None:
        run.stage("a", {"n": 1}, [], Counted())
        with pytest.raises(WorkspaceError, match=r"config\.yaml"):
            Workspace(run.folder, replay=True).stage("a", {"n": 2}, [], Counted())


class TestSiblings:
    """A stage that another run has finished from the same settings and inputs."""

    def test_taken_over_where_the_key_agrees(self, run: Workspace, tmp_path: Path) -> None:
        first = run.stage("round-0/a", {"n": 1}, [], Counted())
        sibling = Workspace(tmp_path / "second", siblings=[tmp_path / "missing", run.folder])
        same, other = Counted(), Counted("other")
        stage = sibling.stage("round-0/a", {"n": 1}, [], same)
        assert (same.times, stage.key, stage.seconds) == (0, first.key, first.seconds)
        assert stage.folder == sibling.folder / "round-0" / "a"
        assert (stage.folder / "notes" / "a.txt").read_text() == "hello"
        sibling.stage("round-0/a", {"n": 2}, [], other)
        assert other.times == 1

    def test_neither_run_can_change_the_other(self, run: Workspace, tmp_path: Path) -> None:
        run.stage("a", {}, [], Counted())
        sibling = Workspace(tmp_path / "second", siblings=[run.folder])
        sibling.stage("a", {}, [], Counted())
        sibling.stage("a", {"n": 2}, [], Counted("changed"))
        assert (run.folder / "a" / "notes" / "a.txt").read_text() == "hello"
        again = Counted()
        run.stage("a", {}, [], again)
        assert again.times == 0

    def test_a_damaged_stage_is_not_taken_over(self, run: Workspace, tmp_path: Path) -> None:
        run.stage("a", {}, [], Counted())
        (run.folder / "a" / "notes" / "a.txt").write_text("jello")
        work = Counted()
        Workspace(tmp_path / "second", siblings=[run.folder]).stage("a", {}, [], work)
        assert work.times == 1

    def test_shards_of_an_own_attempt_go(self, run: Workspace, tmp_path: Path) -> None:
        def die(writer: StageWriter) -> None:
            writer.write_text("shard", "half of it")
            raise Killed

        sibling = Workspace(tmp_path / "second", siblings=[run.folder])
        with pytest.raises(Killed):
            sibling.stage("a", {}, [], die)
        run.stage("a", {}, [], Counted())
        sibling.stage("a", {}, [], Counted())
        assert _files(sibling) == _files(run) - {"run.json"}

    def test_copied_where_there_are_no_hard_links(
        self, run: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError("no links here")

        run.stage("a", {}, [], Counted())
        monkeypatch.setattr(os, "link", refuse)
        work = Counted()
        sibling = Workspace(tmp_path / "second", siblings=[run.folder])
        stage = sibling.stage("a", {}, [], work)
        assert work.times == 0
        assert sibling.finished("a", stage.key) == stage

    def test_killed_while_taking_over(self, run: Workspace, tmp_path: Path) -> None:
        """Dies after each file in turn; a half-taken stage never counts."""
        stage = run.stage("a", {}, [], Counted())
        script = """
import os, signal, sys
from rlrf4rec.workspace import Workspace

left, link = int(sys.argv[3]), os.link

def link_then_die(*names):
    global left
    link(*names)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

os.link = link_then_die
Workspace(sys.argv[2], siblings=[sys.argv[1]]).stage("a", {}, [], lambda writer: sys.exit(3))
"""
        second = tmp_path / "second"
        Workspace(second).create()
        for files in (1, 2, 3):
            assert _python(script, run.folder, second, files).returncode == -signal.SIGKILL
            assert Workspace(second).finished("a", stage.key) is None
        assert _python(script, run.folder, second, 4).returncode == 0
        assert Workspace(second).finished("a", stage.key) is not None
        assert _files(Workspace(second)) == _files(run)
