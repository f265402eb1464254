"""The LLM ranks by itself: its numbers by hand, in shards, and after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlrf4rec import load_config
from rlrf4rec.config import Config
from rlrf4rec.stages import trials
from rlrf4rec.stages.prompting import write_prompts
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.stages.writing import write_texts
from rlrf4rec.stages.zero_shot import read_titles, title_scores, zero_shot_scores
from rlrf4rec.workspace import Stage, Workspace
from small_run import teach, write_config, write_log


class Recorder:
    """Notes the progress of a stage; interrupts it at a number of users."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.done: list[int] = []
        self._interrupt_at = interrupt_at

    def start(self, stage: str, unit: str) -> Callable[[int, int], None]:
        def on_progress(done: int, total: int) -> None:
            if stage == "evaluation/zero-shot":
                self.done.append(done)
                if done == self._interrupt_at:
                    raise KeyboardInterrupt

        return on_progress

    def finish(self, stage: str, seconds: float) -> None:
        pass


@pytest.fixture(scope="module")
def config(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("small")
    write_log(folder)
    teach(tiny_model_folder, folder / "model")
    return load_config(write_config(folder, folder / "model"), ["machine.shard_size=5"])


@pytest.fixture(scope="module")
def world(config: Config, tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(config, Workspace(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def samples(world: World) -> dict[int, Stage]:
    plan = dict.fromkeys(range(world.dataset.n_users), 1)
    return {0: write_texts(world, "round-0/base", plan, write_prompts(world), None)}


@pytest.fixture(scope="module")
def titles(world: World, samples: dict[int, Stage]) -> Stage:
    return read_titles(world, samples, "popular")


def plain_likelihood(model: Path, prompt: str, answer: str) -> tuple[float, int]:
    """Log-likelihood and number of the answer's tokens, by one forward of the whole."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    llm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ids = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]
    given = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        scores = llm(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    rows = range(given, len(ids))
    return sum(float(scores[row - 1, ids[row]]) for row in rows), len(rows)


def test_by_hand(world: World, samples: dict[int, Stage], titles: Stage) -> None:
    """One candidate: the chat, the question, and the default wording of a template without any."""
    lists = world.lists("popular").select(trials.tested_lists(world, "popular"))
    row, place = 3, 4
    user, item = int(lists.user[row]), int(lists.items[row, place])
    text = samples[0].frame("samples.parquet").filter(pl.col("user") == user)["text"][0].strip()
    title = world.dataset.items["title"][item]
    expected = {}
    for name, body in (("after", f"{text}\n\nWhat would"), ("without", "What would")):
        prompt = (
            "<|im_start|>system\nYou recommend one thing that a person would enjoy.<|im_end|>\n"
            f"<|im_start|>user\n{body} this person enjoy?<|im_end|>\n"
            "<|im_start|>assistant\nThis person would enjoy:"
        )
        expected[name], n_tokens = plain_likelihood(
            Path(world.config.model.name), prompt, f" {title}"
        )
    known = titles.frame("titles.parquet").filter(pl.col("item") == item)
    assert known["n_tokens"][0] == n_tokens == len(f" {title}")  # one token a byte
    assert known["log_likelihood"][0] == pytest.approx(expected["without"], abs=1e-3)
    stored = titles.frame("likelihoods-popular.parquet")["log_likelihood"][row][place]
    assert stored == pytest.approx(expected["after"], abs=1e-3)
    scores = zero_shot_scores(world, titles, "popular")
    assert scores.shape == lists.items.shape
    assert scores[row, place] == pytest.approx(expected["after"] / n_tokens, abs=1e-4)
    assert abs(expected["after"] - expected["without"]) > 0.01  # the text is heard


def test_title_scores_by_hand() -> None:
    after, without, n_tokens = np.array([[-20.0]]), np.array([[-24.0]]), np.array([[4]])
    found = {
        score: title_scores(after, without, n_tokens, score).item()
        for score in ("sum", "mean", "pmi", "pmi_mean")
    }
    assert found == {"sum": -20, "mean": -5, "pmi": 4, "pmi_mean": 1}


def test_the_choice_of_a_score_asks_the_llm_nothing(
    world: World, samples: dict[int, Stage], titles: Stage
) -> None:
    scores = []
    for score in ("sum", "pmi"):
        settings = world.config.evaluation.model_copy(update={"zero_shot_score": score})
        config = world.config.model_copy(update={"evaluation": settings})
        again = open_world(config, world.workspace)
        assert read_titles(again, samples, "popular").key == titles.key
        scores.append(zero_shot_scores(again, titles, "popular"))
    assert not np.allclose(scores[0], scores[1])


def test_another_kind_asks_for_its_own_titles_only(
    world: World, samples: dict[int, Stage], titles: Stage
) -> None:
    settings = world.config.evaluation.model_copy(update={"kinds": ["popular", "uniform"]})
    both = open_world(world.config.model_copy(update={"evaluation": settings}), world.workspace)
    assert read_titles(both, samples, "popular") == titles
    uniform = read_titles(both, samples, "uniform")
    n_tested = int(trials.tested_lists(both, "uniform").sum())
    assert zero_shot_scores(both, uniform, "uniform").shape == (n_tested, 10)
    assert not (uniform.folder / "likelihoods-popular.parquet").exists()


@pytest.mark.parametrize("shard_size", [1, 100])
def test_shards_change_no_bit(
    config: Config, world: World, titles: Stage, tmp_path: Path, shard_size: int
) -> None:
    machine = config.machine.model_copy(update={"shard_size": shard_size})
    other = open_world(config.model_copy(update={"machine": machine}), Workspace(tmp_path))
    plan = dict.fromkeys(range(other.dataset.n_users), 1)
    texts = {0: write_texts(other, "round-0/base", plan, write_prompts(other), None)}
    for name in ("titles.parquet", "likelihoods-popular.parquet"):
        assert read_titles(other, texts, "popular").frame(name).equals(titles.frame(name))


def test_a_killed_stage_goes_on_where_it_was(config: Config, titles: Stage, tmp_path: Path) -> None:
    """12 users are tested, 5 a shard: a kill at the eighth costs three of them, once."""
    killed = Recorder(interrupt_at=8)
    workspace = Workspace(tmp_path)
    world = open_world(config, workspace, killed)
    plan = dict.fromkeys(range(world.dataset.n_users), 1)
    texts = {0: write_texts(world, "round-0/base", plan, write_prompts(world), None)}
    with pytest.raises(KeyboardInterrupt):
        read_titles(world, texts, "popular")
    resumed = Recorder()
    stage = read_titles(open_world(config, workspace, resumed), texts, "popular")
    assert resumed.done == [5, *range(6, 13)]
    assert {path.name for path in stage.folder.iterdir()} == {
        "stage.json",
        "titles.parquet",
        "likelihoods-popular.parquet",
    }
    for name in ("titles.parquet", "likelihoods-popular.parquet"):
        assert stage.frame(name).equals(titles.frame(name))
