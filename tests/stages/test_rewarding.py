"""The choice of pairs as a stage: which estimate of a reward it goes by."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from rlrf4rec.config import AlignmentConfig, RewardConfig
from rlrf4rec.stages.rewarding import _choice_settings, choose
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage

SAID = ("Genres: horror", "Genres: comedy", "Genres: drama, crime", "Genres: western")


@pytest.fixture(scope="module")
def stages(world: World) -> tuple[Stage, Stage, pl.DataFrame]:
    """Prompts, and rewards that are the same on both halves of a user's lists: all is repeated."""
    users = np.repeat(np.flatnonzero(world.folds.role == "train"), len(SAID))
    reward = np.random.default_rng(0).normal(size=len(users))
    rewards = pl.DataFrame(
        {
            "user": users,
            "sample": np.tile(np.arange(len(SAID)), len(users) // len(SAID)),
            "text": [
                f"{world.template.first_words}{SAID[row % len(SAID)]}" for row in range(len(users))
            ],
            "structure_ok": True,
            "repetition": 0.0,
            "ndcg": 0.5,
            "n_lists": 4,
            **dict.fromkeys(
                ("log_likelihood", "log_likelihood_even", "log_likelihood_odd"), reward
            ),
        },
        schema_overrides={"user": pl.Int32},
    )
    prompts = pl.DataFrame(
        {"user": range(world.dataset.n_users), "prompt": "p"}, schema_overrides={"user": pl.Int32}
    )
    made = [
        world.workspace.stage(
            name, {}, [], lambda writer, f=frame, n=name: writer.write_frame(f"{n}.parquet", f)
        )
        for name, frame in (("prompts", prompts), ("rewards", rewards))
    ]
    return made[0], made[1], rewards


def _pairs(world: World, stages: tuple[Stage, Stage, pl.DataFrame], way: str) -> pl.DataFrame:
    prompts, rewards, _ = stages
    reward = RewardConfig.model_validate({"choose_by": way, "margin": 0.0})
    aside = dataclasses.replace(world, config=world.config.model_copy(update={"reward": reward}))
    return choose(aside, way, rewards, prompts, random=False).frame("pairs.parquet")


def test_the_expected_reward_is_the_measured_one_where_all_of_it_is_repeated(
    world: World, stages: tuple[Stage, Stage, pl.DataFrame]
) -> None:
    measured, expected = (_pairs(world, stages, way) for way in ("measured", "expected"))
    names = ["user", "chosen", "rejected"]
    assert expected.select(names).equals(measured.select(names))
    spread = (
        stages[2]
        .group_by("user")
        .agg(pl.col("log_likelihood").max() - pl.col("log_likelihood").min())
    )
    both = expected.join(spread, on="user")
    gap = (both["chosen_reward"] - both["rejected_reward"]).to_numpy()
    np.testing.assert_allclose(gap, both["log_likelihood"].to_numpy())


def test_the_foreseen_reward_does_not_follow_chance(
    world: World, stages: tuple[Stage, Stage, pl.DataFrame]
) -> None:
    """These rewards are drawn: nothing foretells them."""
    measured, foreseen = (_pairs(world, stages, way) for way in ("measured", "foreseen"))
    both = measured.join(foreseen, on="user", suffix="_foreseen")
    assert (both["chosen"] == both["chosen_foreseen"]).mean() < 0.7


def test_a_seed_of_its_own_draws_other_pairs_of_the_same_texts(
    world: World, stages: tuple[Stage, Stage, pl.DataFrame]
) -> None:
    """None is the run's, so that stages from before there was another one stay valid."""
    prompts, rewards, _ = stages
    reward = RewardConfig.model_validate({"choose_by": "measured", "margin": 0.0})
    drawn: dict[int | None, list[tuple[object, ...]]] = {}
    keys = {}
    for seed in (None, world.config.seed, world.config.seed + 1):
        alignment = AlignmentConfig(max_pairs=6, seed=seed)
        update = {"reward": reward, "alignment": alignment}
        aside = dataclasses.replace(world, config=world.config.model_copy(update=update))
        pairs, at_random = (
            choose(aside, f"seed-{name}", rewards, prompts, random=name == "random")
            for name in ("best", "random")
        )
        keys[seed] = (pairs.key, at_random.key)
        frames = (stage.frame("pairs.parquet") for stage in (pairs, at_random))
        drawn[seed] = [
            row for frame in frames for row in frame.select("user", "chosen", "rejected").rows()
        ]
    own, other = world.config.seed, world.config.seed + 1
    assert drawn[None] == drawn[own] != drawn[other]
    assert keys[None] == keys[own]
    assert not {*keys[own]} & {*keys[other]}


def test_another_bound_on_repetition_is_another_choice() -> None:
    """The default is left out of the key, so that stages from before it could be set stay valid."""
    assert "max_repetition" not in _choice_settings(RewardConfig())
    assert _choice_settings(RewardConfig(max_repetition=0.3))["max_repetition"] == 0.3
