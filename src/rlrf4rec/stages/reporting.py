"""The report's stories and learning curves, from a finished run's stages."""

from __future__ import annotations

import numpy as np
import polars as pl

from rlrf4rec.evaluation.stories import CurvePoint, RankedItem, ReadItem, RewardedText, Story
from rlrf4rec.records import CandidateLists, Float32Array
from rlrf4rec.stages.prompting import shown_history
from rlrf4rec.stages.systems import first_texts
from rlrf4rec.stages.trail import Trail
from rlrf4rec.stages.trials import load_scores, tested_lists
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage


def tuning_curves(trail: Trail) -> dict[str, list[CurvePoint]]:
    """DPO's learning curve of every tuning, by name."""
    tunings = {
        f"round {current.number}, policy {half}": stage
        for current in trail.rounds
        for half, stage in current.tuning.items()
    }
    if trail.random_pairs is not None:
        tunings |= {
            f"random pairs, policy {half}": stage
            for half, stage in trail.random_pairs.tuning.items()
        }
    return {name: _curve(stage) for name, stage in tunings.items()}


def stories(world: World, trail: Trail, evaluated: dict[str, Stage]) -> list[Story]:
    """A few tested users, from history to reranked list.

    Args:
        world: the run.
        trail: its rounds.
        evaluated: the evaluation stages of the primary kind by system name.
    """
    config = world.config
    kind, backbone = config.evaluation.kinds[0], config.evaluation.backbones[0]
    lists = world.lists(kind).select(tested_lists(world, kind))
    last_number = trail.final.number
    last = f"tuned_round_{last_number}" if last_number else None
    before = load_scores(world, evaluated["untuned"], backbone)[0]
    after = load_scores(world, evaluated[last], backbone)[0] if last else None
    text_before = first_texts(world, trail.rounds[0].samples)
    text_after = first_texts(world, trail.final.samples) if last else {}
    rewarded = pl.concat(
        [stage.frame("rewards.parquet") for stage in trail.rounds[0].judged.values()]
    )
    return [
        Story(
            user_id=world.dataset.users["user_id"][user],
            history=[ReadItem(item.title, item.rating) for item in shown_history(world, user)],
            best=_extreme(rewarded, user, config.reward.metric, last=True),
            worst=_extreme(rewarded, user, config.reward.metric, last=False),
            text_before=text_before.get(user, ""),
            text_after=text_after.get(user),
            list_before=_ranked(world, lists, before, place),
            list_after=[] if after is None else _ranked(world, lists, after, place),
            note=f"{backbone.upper()}, seed {config.evaluation.seeds[0]}, the first list",
        )
        for user, place in _chosen_users(world, lists)
    ]


def _curve(stage: Stage) -> list[CurvePoint]:
    frame = stage.frame("curve.parquet").filter(pl.col("phase") == "dpo").sort("step")
    return [
        CurvePoint(step, loss, margin, accuracy)
        for step, loss, margin, accuracy in frame.select(
            "step", "loss", "margin", "accuracy"
        ).iter_rows()
    ]


def _chosen_users(world: World, lists: CandidateLists) -> list[tuple[int, int]]:
    """A seeded few of the tested users, each with the row of the first list that has a positive."""
    rows = np.flatnonzero(lists.labels.any(axis=1))
    users, first = np.unique(lists.user[rows], return_index=True)
    order = np.random.default_rng([world.config.seed, 3]).permutation(len(users))
    chosen = sorted(order[: world.config.evaluation.report_users])
    return [(int(users[place]), int(rows[first[place]])) for place in chosen]


def _extreme(rewarded: pl.DataFrame, user: int, metric: str, *, last: bool) -> RewardedText | None:
    rows = rewarded.filter(pl.col("user") == user).drop_nulls(metric).sort(metric, "sample")
    if rows.is_empty():
        return None
    row = rows.row(-1 if last else 0, named=True)
    return RewardedText(row["text"], row[metric])


def _ranked(
    world: World, lists: CandidateLists, scores: Float32Array, place: int
) -> list[RankedItem]:
    order = np.argsort(-scores[place], kind="stable")
    titles = world.dataset.items["title"]
    return [
        RankedItem(titles[int(lists.items[place, rank])], bool(lists.labels[place, rank]))
        for rank in order
    ]
