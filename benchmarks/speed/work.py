"""The work that rows share: MovieLens-100K as the shipped experiment reads it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from rlrf4rec.config import MachineConfig, ModelConfig, load_config
from rlrf4rec.generation.engines import choose_dtype
from rlrf4rec.knowledge.texts import history_texts, item_texts
from rlrf4rec.models import language_model_folder
from rlrf4rec.stages.prompting import write_prompts
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "ml-100k.yaml"

_FOLDER = TemporaryDirectory(prefix="rlrf4rec-bench-")


@cache
def world() -> World:
    """The experiment's data, lists and folds, in a folder that ends with the process."""
    return open_world(load_config(CONFIG), Workspace(Path(_FOLDER.name)))


def machine_dtype() -> Literal["float32", "bfloat16"]:
    """What the machine computes in, the product as well as its peers."""
    return choose_dtype(ModelConfig(), MachineConfig())


def model_folder() -> Path:
    """The LLM: SmolLM2-135M-Instruct."""
    return language_model_folder(world().config.model.name)


def prompts(max_tokens: int | None = None) -> list[str]:
    """Every user's prompt; within a budget of tokens, the experiment's if None."""
    here = world()
    if max_tokens is not None:
        here = replace(here, config=load_config(CONFIG, [f"prompt.max_tokens={max_tokens}"]))
    return write_prompts(here).frame("prompts.parquet")["prompt"].to_list()


def texts() -> tuple[list[str], list[str]]:
    """Each item's text, and each user's of the reading history; empty where nothing was liked."""
    here = world()
    liking = here.config.data.positive_rating
    return item_texts(here.dataset), history_texts(here.dataset, here.histories, liking)
