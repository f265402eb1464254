"""A world of 8 users, and two policies with random adapters, as if tuned on one half each."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from rlrf4rec.config import Config, parse_config
from rlrf4rec.stages.trail import Round
from rlrf4rec.stages.world import World, open_world
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


def make_world(folder: Path, model: Path) -> World:
    """Of a run in ``folder/run``."""
    return open_world(make_config(folder, model), Workspace(folder / "run"))


def tuned_round(world: World) -> Round:
    """Round 1 of a run whose base model is the one of its configuration."""
    last = Round(1)
    for half in world.folds.policies:

        def work(writer: StageWriter, half: int = half) -> None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(half)
                settings = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
                base = AutoModelForCausalLM.from_pretrained(world.config.model.name)
                get_peft_model(base, settings).save_pretrained(str(writer.folder / "adapter"))

        last.tuning[half] = world.workspace.stage(
            f"round-1/policy-{half}/tuning", {"half": half}, [], work
        )
    return last
