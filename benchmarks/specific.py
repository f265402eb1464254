"""Is a text worth more to its own user than to another? python benchmarks/specific.py RUN

Under the fixed judges, for users that neither policy nor judge has seen: the mean reward of each
policy's texts, the same when every user reads one other user's texts, and the difference with half
its 95 % interval over users.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

from rlrf4rec.feedback import RewardModels
from rlrf4rec.records import FloatArray
from rlrf4rec.running import run_config
from rlrf4rec.stages.rewarding import rewarded_texts
from rlrf4rec.stages.systems import one_other
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace

METRICS = ("log_likelihood", "ndcg")


def main(folder: Path) -> None:
    """Print a row a round and metric."""
    world = open_world(run_config(folder), Workspace(folder, replay=True))
    for number in range(world.config.rounds.n_rounds + 1):
        parts = [_rewards(world, folder, number, half) for half in world.folds.policies]
        for metric in METRICS:
            own, other = np.concatenate([part[metric] for part in parts], axis=1)
            gain = own - other
            width = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5
            print(
                f"round {number}, {metric}: own {own.mean():.4f}, another user's "
                f"{other.mean():.4f}, difference {gain.mean():+.4f} ± {width:.4f}"
            )


def _rewards(world: World, folder: Path, number: int, half: int) -> dict[str, FloatArray]:
    """Each metric's means by user, ``[2, users]``: with the own texts, with another user's."""
    models = RewardModels.load(folder / f"round-0/policy-{half}/rewards/models")
    writer = f"round-{number}/policy-{half}" if number else "round-0/base"
    unseen = pl.Series(np.flatnonzero(world.folds.half != half), dtype=pl.Int32)
    texts = pl.read_parquet(folder / writer / "samples" / "samples.parquet").filter(
        pl.col("user").is_in(unseen.implode()) & (pl.col("sample") < world.config.texts_per_user)
    )
    users = texts["user"].unique().sort().to_numpy()
    reads = users[one_other(len(users), np.random.default_rng(0))]
    lent = texts.with_columns(pl.col("user").replace_strict(users, reads, return_dtype=pl.Int32))
    own, other = (
        rewarded_texts(world, models, some.sort("user", "sample")) for some in (texts, lent)
    )
    found = {}
    for metric in METRICS:
        both = _by_user(own, metric).join(_by_user(other, metric), on="user", suffix="_other")
        found[metric] = both.select(metric, f"{metric}_other").to_numpy().T
    return found


def _by_user(texts: pl.DataFrame, metric: str) -> pl.DataFrame:
    return texts.group_by("user").agg(pl.col(metric).mean()).drop_nulls().sort("user")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
