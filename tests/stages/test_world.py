"""Candidate lists as stages: what another kind of them makes stale."""

from __future__ import annotations

from pathlib import Path

from rlrf4rec import load_config
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace
from small_run import write_config, write_log


def opened(folder: Path, kinds: str, own: str = "popular") -> World:
    settings = [f"lists.kind={own}", f"evaluation.kinds={kinds}"]
    config = load_config(write_config(folder, folder / "no-model"), settings)
    workspace = Workspace(folder / f"{own}-{len(kinds)}")
    workspace.create()
    return open_world(config, workspace)


def test_another_kind_is_a_stage_of_its_own(tmp_path: Path) -> None:
    """What reads the run's own lists needs neither the other kind nor its name."""
    write_log(tmp_path)
    one, two = opened(tmp_path, "[popular]"), opened(tmp_path, "[uniform, popular]")
    assert (list(one.listed_apart), list(two.listed_apart)) == ([], ["uniform"])
    assert [stage.key for stage in two.list_stages()] == [one.listed.key]
    assert two.list_stages("popular") == two.list_stages()
    assert two.list_stages("uniform") == [two.listed, two.listed_apart["uniform"]]
    assert two.lists("uniform").kind == "uniform"
    as_own = opened(tmp_path, "[uniform]", own="uniform")
    assert two.lists("uniform").to_frame().equals(as_own.lists().to_frame())
    assert not two.lists("uniform").to_frame().equals(two.lists().to_frame())
