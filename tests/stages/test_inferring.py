"""Texts on demand: by which policy, with which seeds, and with nothing left behind."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from rlrf4rec.errors import MissingPartError, RequestError
from rlrf4rec.stages.inferring import infer_texts
from rlrf4rec.stages.prompting import write_prompts
from rlrf4rec.stages.trail import Round, Trail
from rlrf4rec.stages.world import World
from rlrf4rec.stages.writing import write_texts
from two_policies import USERS, make_world, tuned_round


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> World:
    return make_world(tmp_path_factory.mktemp("inferring"), tiny_model_folder)


@pytest.fixture(scope="module")
def untuned(world: World) -> Trail:
    return Trail(write_prompts(world), [Round(0)])


@pytest.fixture(scope="module")
def tuned(world: World, untuned: Trail) -> Trail:
    return Trail(untuned.prompts, [*untuned.rounds, tuned_round(world)])


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_texts_are_those_that_the_run_wrote(world: World, untuned: Trail) -> None:
    """Same seeds: whoever else is written for, and however many texts."""
    everyone = dict.fromkeys(range(len(USERS)), 2)
    stage = write_texts(world, "round-0/base", everyone, untuned.prompts, None)
    written = stage.frame("samples.parquet").filter(pl.col("user").is_in([1, 5]))
    before = files(world.workspace.folder)
    found = infer_texts(world, untuned, ["u5", "u1", "u5"], 2)
    assert found["user_id"].to_list() == ["u5", "u5", "u1", "u1"]
    assert found["sample"].to_list() == [0, 1, 0, 1]
    assert found["writer"].unique().to_list() == ["round-0/base"]
    columns = ["user_id", "sample", "text"]
    assert found.select(columns).sort(columns).equals(written.select(columns).sort(columns))
    assert files(world.workspace.folder) == before


def test_auto_writes_in_the_type_that_the_processor_computes_in(
    world: World, untuned: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    model = world.config.model.model_copy(update={"dtype": "auto"})
    auto = replace(world, config=world.config.model_copy(update={"model": model}))
    assert infer_texts(auto, untuned, USERS).equals(infer_texts(world, untuned, USERS))


def test_a_tuned_policy_writes_for_users_it_was_not_tuned_on(world: World, tuned: Trail) -> None:
    found = infer_texts(world, tuned, USERS)
    assert found["user_id"].to_list() == USERS
    for user, writer in enumerate(found["writer"]):
        assert writer == f"round-1/policy-{1 - world.folds.half[user]}"
    # The adapters are heard.
    base = infer_texts(world, Trail(tuned.prompts, tuned.rounds[:1]), USERS)
    assert found["text"].to_list() != base["text"].to_list()


def test_unknown_users_are_named(world: World, untuned: Trail) -> None:
    with pytest.raises(RequestError, match="1 unknown: 'nobody'"):
        infer_texts(world, untuned, ["u1", "nobody"])
    with pytest.raises(RequestError, match="at least one"):
        infer_texts(world, untuned, [])
    with pytest.raises(RequestError, match="a list of user ids"):
        infer_texts(world, untuned, "u1")
    with pytest.raises(RequestError, match="at least one text"):
        infer_texts(world, untuned, ["u1"], 0)


def test_a_run_published_without_its_adapters_says_so(world: World, tuned: Trail) -> None:
    adapter = tuned.rounds[-1].tuning[0].folder / "adapter"
    shutil.move(adapter, adapter.with_name("away"))
    try:
        with pytest.raises(MissingPartError, match="adapter_config"):
            infer_texts(world, tuned, USERS)
    finally:
        shutil.move(adapter.with_name("away"), adapter)
