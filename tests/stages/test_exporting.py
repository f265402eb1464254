"""The tuned LLM as a model of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlrf4rec.alignment.models import load_adapter
from rlrf4rec.errors import MissingPartError, RequestError
from rlrf4rec.stages.exporting import export_model
from rlrf4rec.stages.prompting import write_prompts
from rlrf4rec.stages.trail import Round, Trail
from rlrf4rec.stages.world import World
from rlrf4rec.stages.writing import write_texts
from two_policies import USERS, make_world, tuned_round


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> World:
    return make_world(tmp_path_factory.mktemp("exporting"), tiny_model_folder)


@pytest.fixture(scope="module")
def trail(world: World) -> Trail:
    return Trail(write_prompts(world), [Round(0), tuned_round(world)])


def test_it_is_the_base_with_the_adapter_of_that_policy(
    world: World, trail: Trail, tmp_path: Path
) -> None:
    export_model(world, trail, tmp_path / "new" / "llm", policy=1)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "new" / "llm")
    base = AutoModelForCausalLM.from_pretrained(world.config.model.name)
    ids = torch.tensor([[256, 40, 41, 42]])
    untuned = base(ids).logits
    tuned = load_adapter(base, trail.final.tuning[1].folder / "adapter")(ids).logits
    torch.testing.assert_close(exported(ids).logits, tuned, rtol=1e-4, atol=1e-4)
    assert (exported(ids).logits - untuned).abs().max() > 0.01


def test_a_later_run_writes_with_it_as_the_policy_wrote(
    world: World, trail: Trail, tmp_path: Path
) -> None:
    (tmp_path / "llm").mkdir()  # empty: there is nothing to lose
    export_model(world, trail, tmp_path / "llm")
    later = make_world(tmp_path, tmp_path / "llm")
    plan = dict.fromkeys(range(len(USERS)), 2)
    name = trail.final.folder(0)
    then = write_texts(world, name, plan, trail.prompts, trail.final.tuning[0])
    now = write_texts(later, name, plan, write_prompts(later), None)
    assert now.frame("samples.parquet").equals(then.frame("samples.parquet"))


def test_what_is_there_is_kept(world: World, trail: Trail, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("dear", encoding="utf-8")
    for taken in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(RequestError, match="holds something"):
            export_model(world, trail, taken)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "dear"


def test_what_was_not_tuned_is_not_exported(world: World, trail: Trail, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"round 1: 0, 1; found 2"):
        export_model(world, trail, tmp_path / "llm", policy=2)
    with pytest.raises(RequestError, match=r"round 0: none .* model\.name says"):
        export_model(world, Trail(trail.prompts, trail.rounds[:1]), tmp_path / "llm")
    assert not list(tmp_path.iterdir())


def test_a_run_published_without_its_adapter_says_so(
    world: World, trail: Trail, tmp_path: Path
) -> None:
    adapter = trail.final.tuning[0].folder / "adapter"
    shutil.move(adapter, tmp_path / "away")
    try:
        with pytest.raises(MissingPartError, match="adapter_config"):
            export_model(world, trail, tmp_path / "llm")
    finally:
        shutil.move(tmp_path / "away", adapter)
    assert not (tmp_path / "llm").exists()
