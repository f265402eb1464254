"""Which of its N texts a user should be read by: python benchmarks/choice.py RUN [key=value …]

Recommenders are trained anew on one untuned text a user: the first one, the one with the highest
foreseen reward, the one with the lowest. NDCG@5 against the first text on the lists of LLM fold 0
only, one seed: mean over lists with its standard error, and mean over users. What choosing gains
here is what tuning has to learn from. ``reward.metric=ndcg`` tries the other reward.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from command import call
from fold_0 import ndcg_on_fold_0, said_gain
from rlrf4rec.config import load_config
from rlrf4rec.stages.rewarding import foreseen
from rlrf4rec.stages.systems import System, best_rows, both_halves
from rlrf4rec.stages.text_inputs import encode_texts, text_rows
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace


def main(folder: Path, overrides: list[str]) -> None:
    """Print a row a choice."""
    with TemporaryDirectory() as temporary:
        world = open_world(load_config(folder / "config.yaml", overrides), Workspace(temporary))
        backbones = world.config.evaluation.backbones
        systems = _systems(world, folder)
        values, users = ndcg_on_fold_0(world, systems, backbones)
    for system in systems:
        gains = np.stack([values[system.name, b] - values["first", b] for b in backbones])
        cells = " ".join(
            f"{b} {gain.mean():+.4f}" for b, gain in zip(backbones, gains, strict=True)
        )
        print(f"{system.name:8s} {said_gain(gains.mean(axis=0), users)} ({cells})")


def _systems(world: World, folder: Path) -> list[System]:
    parts = []
    for half in world.folds.policies:
        texts = pl.read_parquet(folder / f"round-0/policy-{half}/rewards/rewards.parquet")
        parts.append(texts.with_columns(pl.Series("foreseen", foreseen(world, texts))))
    texts = pl.concat(parts).sort("user", "sample")
    vectors, rows = encode_texts(world, texts), text_rows(world.dataset.n_users, texts)
    choices = {
        "first": rows[:, 0],
        "best": best_rows(rows, texts["foreseen"]),
        "worst": best_rows(rows, -texts["foreseen"]),
    }
    return [System(name, vectors, both_halves(chosen[:, None])) for name, chosen in choices.items()]


if __name__ == "__main__":
    call(lambda given: main(Path(given[0]), given[1:]), least=1)
