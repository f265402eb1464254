"""Rewards by round and split, as results.json shows them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from rlrf4rec.evaluation.results import RewardRow
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage


def validation_reward(world: World, judged: Iterable[tuple[int, Stage]]) -> float | None:
    """Mean reward of the validation users' texts; None where none was scored."""
    texts = _judged_texts(world, judged).filter(pl.col("split") == "validation")
    value = texts[world.config.reward.metric].mean()
    return None if value is None else float(value)  # type: ignore[arg-type]  # a Float64 column


def reward_rows(world: World, number: int, judged: Iterable[tuple[int, Stage]]) -> list[RewardRow]:
    """A row a split: ``train``, ``validation``, ``test`` (users the policy never learned from)."""
    texts = _judged_texts(world, judged)
    metric = pl.col(world.config.reward.metric)
    users = texts.group_by("split", "user").agg(
        metric.mean().alias("mean"), metric.max().alias("best"), metric.min().alias("worst")
    )
    rows = []
    for split in ("train", "validation", "test"):
        of_split = users.filter(pl.col("split") == split).sort("user")
        formed = texts.filter(pl.col("split") == split)["structure_ok"]
        if len(formed):
            rows.append(
                RewardRow(
                    round=number,
                    split=split,
                    mean=_mean(of_split["mean"]),
                    best=_mean(of_split["best"]),
                    worst=_mean(of_split["worst"]),
                    structure_ok=_mean(formed),
                    **_agreement(
                        texts.filter(pl.col("split") == split), world.config.reward.metric
                    ),
                )
            )
    return rows


def _agreement(texts: pl.DataFrame, metric: str) -> dict[str, float | None]:
    """How much a user's texts differ in reward, and whether two halves of the lists agree on it."""
    names = [metric, f"{metric}_even", f"{metric}_odd"]
    within = (
        texts.drop_nulls(names)
        .with_columns(pl.len().over("user").alias("texts"))
        .filter(pl.col("texts") > 1)
        .select(pl.col(name) - pl.col(name).mean().over("user") for name in names)
    )
    if within.is_empty():
        return {"spread": None, "reliability": None}
    value, even, odd = (within[name].to_numpy() for name in names)
    alike = even.std() > 0 and odd.std() > 0
    return {
        "spread": float(value.std()),
        "reliability": float(np.corrcoef(even, odd)[0, 1]) if alike else None,
    }


def _judged_texts(world: World, judged: Iterable[tuple[int, Stage]]) -> pl.DataFrame:
    parts = []
    for half, stage in judged:
        own = world.folds.half == half
        split = np.where(own, world.folds.role, "test")
        frame = stage.frame("rewards.parquet")
        parts.append(
            frame.with_columns(pl.Series("split", split[frame["user"].to_numpy()].tolist()))
        )
    return pl.concat(parts)


def _mean(values: pl.Series) -> float | None:
    mean = values.mean()
    return None if mean is None else float(mean)  # type: ignore[arg-type]  # a numeric column
