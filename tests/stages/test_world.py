"""Candidate lists as stages: what another kind of them makes stale."""

from __future__ import annotations

from pathlib import Path

from rlrf4rec import load_config
from rlrf4rec.config import ModelConfig
from rlrf4rec.stages.world import World, model_settings, open_world
from rlrf4rec.workspace import Workspace
from small_run import write_config, write_log


def opened(folder: Path, kinds: str, own: str = "popular") -> World:
    settings = [f"lists.kind={own}", f"evaluation.kinds={kinds}"]
    config = load_config(write_config(folder, folder / "no-model"), settings)
    workspace = Workspace(folder / f"{own}-{len(kinds)}")
    workspace.create()
    return open_world(config, workspace)


def test_a_model_is_known_by_what_it_is_not_by_where_it_lies(tmp_path: Path) -> None:
    one, copy, other = (tmp_path / name for name in ("one", "copy", "other"))
    for folder, weights in ((one, b"a"), (copy, b"a"), (other, b"b")):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(weights)
    known, same, different = (
        model_settings(ModelConfig(name=str(folder), dtype="float32"))
        for folder in (one, copy, other)
    )
    assert known == same != different
    assert model_settings(ModelConfig(name=str(one), dtype="bfloat16")) != known
    # As before identities were looked for, so that runs of that time stay valid.
    packaged = ModelConfig(name="packaged/smollm2-135m-instruct")
    assert model_settings(packaged) == packaged.model_dump()


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
