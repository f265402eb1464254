"""Texts on demand: by which policy, with which seeds, and with nothing left behind."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from rlrf4rec.config import Config, parse_config
from rlrf4rec.errors import MissingPartError, RequestError
from rlrf4rec.stages.inferring import infer_texts
from rlrf4rec.stages.prompting import write_prompts
from rlrf4rec.stages.trail import Round, Trail
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.stages.writing import write_texts
from rlrf4rec.workspace import StageWriter, Workspace

USERS = [f"u{number}" for number in range(8)]


def make_config(folder: Path, model: Path) -> Config:
    """8 users with 4 interactions each; a tiny LLM in float32 on the plain engine."""
    rows = [f"{user},i{(3 * n + k) % 30}" for n, user in enumerate(USERS) for k in range(4)]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id", *rows]), encoding="utf-8")
    items = [f"i{number},Title {number}" for number in range(30)]
    (folder / "items.csv").write_text("\n".join(["item_id,title", *items]), encoding="utf-8")
    return parse_config(
        {
            "data": {
                "source": "table",
                "interactions": str(folder / "log.csv"),
                "items": str(folder / "items.csv"),
            },
            "lists": {"list_size": 4, "chunk_size": 2, "min_history": 1},
            "folds": {"validation_share": 0.25, "recommender_folds": 2},
            "prompt": {"template": "generic", "max_tokens": 6000},
            "model": {"name": str(model), "dtype": "float32"},
            "generation": {"n_samples": 2, "max_new_tokens": 8},
            "machine": {"engine": "transformers", "device": "cpu"},
        }
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> World:
    folder = tmp_path_factory.mktemp("inferring")
    return open_world(make_config(folder, tiny_model_folder), Workspace(folder / "run"))


@pytest.fixture(scope="module")
def untuned(world: World) -> Trail:
    return Trail(write_prompts(world), [Round(0)])


@pytest.fixture(scope="module")
def tuned(world: World, untuned: Trail, tiny_model_folder: Path) -> Trail:
    """Two policies with random adapters, as if tuned on one half each."""
    last = Round(1)
    for half in world.folds.policies:

        def work(writer: StageWriter, half: int = half) -> None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(half)
                settings = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
                base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
                get_peft_model(base, settings).save_pretrained(str(writer.folder / "adapter"))

        last.tuning[half] = world.workspace.stage(
            f"round-1/policy-{half}/tuning", {"half": half}, [], work
        )
    return Trail(untuned.prompts, [*untuned.rounds, last])


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
