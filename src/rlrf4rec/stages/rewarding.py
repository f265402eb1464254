"""Steps 2 to 4 as stages: fit the reward recommenders on a round's texts, score, choose pairs."""

from __future__ import annotations

import numpy as np
import polars as pl

from rlrf4rec.config import MAX_REPETITION, RewardConfig
from rlrf4rec.feedback import (
    RewardModels,
    choose_pairs,
    choose_random_pairs,
    expected_rewards,
    fit_reward_models,
    foreseen_rewards,
    reward_texts,
)
from rlrf4rec.knowledge.texts import profile_vectors
from rlrf4rec.recommenders import backbone_identity
from rlrf4rec.records import BoolArray, FloatArray
from rlrf4rec.stages.text_inputs import encode_texts, sampled_inputs
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage, StageWriter


def fit_and_reward(world: World, name: str, samples: Stage, half: int) -> Stage:
    """Fit cross-fitted reward recommenders on one half's texts and reward them.

    Writes ``rewards.parquet`` (one row a text of the half's users) and ``models/``.
    """
    config = world.config
    stage_name = f"{name}/rewards"
    on_progress = world.reporter.start(stage_name, "reward models")

    def work(writer: StageWriter) -> None:
        trainers, validators = training_users(world, half)
        texts = _of_users(samples.frame("samples.parquet"), trainers | validators)
        inputs, rows, practice = sampled_inputs(world, texts)
        lists = world.lists()
        models = fit_reward_models(
            config.reward,
            config.recommender,
            config.knowledge,
            inputs,
            lists,
            rows[lists.user],
            trainers,
            validators,
            background=~world.folds.written,
            seed=config.seed,
            processes=config.machine.processes,
            practice_rows=practice[lists.user],
            folder=writer.folder / "models",
            on_progress=on_progress,
        )
        scored = lists.select((trainers | validators)[lists.user])
        rewards = reward_texts(models, inputs, scored, rows[scored.user], k=config.reward.k)
        writer.write_frame("rewards.parquet", _with_texts(texts, rewards))

    needs = [*world.list_stages(), samples]
    stage = world.workspace.stage(stage_name, _settings(world, half), needs, work)
    world.reporter.finish(stage_name, stage.seconds)
    return stage


def judge(world: World, name: str, samples: Stage, judges: Stage, half: int) -> Stage:
    """Reward a policy's texts with the *first* round's recommenders of its half.

    One fixed judge makes rounds comparable, and no judge was trained on a user it scores: the
    half's own users are cross-fitted, everybody else is unknown to it. These rewards are measured,
    nothing is tuned on them but the stop (validation users).
    """
    stage_name = f"{name}/judged-{half}"

    def work(writer: StageWriter) -> None:
        texts = samples.frame("samples.parquet")
        models = RewardModels.load(judges.folder / "models")
        writer.write_frame("rewards.parquet", rewarded_texts(world, models, texts))

    return world.workspace.stage(
        stage_name, _settings(world, half), [*world.list_stages(), samples, judges], work
    )


def rewarded_texts(world: World, models: RewardModels, texts: pl.DataFrame) -> pl.DataFrame:
    """Texts (``user``, ``sample``, ``text``) with their rewards on the users' lists beside them."""
    inputs, rows, _ = sampled_inputs(world, texts)
    lists = world.lists()
    lists = lists.select(np.isin(lists.user, texts["user"].unique().to_numpy()))
    rewards = reward_texts(models, inputs, lists, rows[lists.user], k=world.config.reward.k)
    return _with_texts(texts, rewards)


def choose(world: World, name: str, rewards: Stage, prompts: Stage, *, random: bool) -> Stage:
    """Choose the pairs of one half's training users: best against worst, or at random (control)."""
    config, alignment = world.config, world.config.alignment
    n_pairs = alignment.pairs_per_user

    def work(writer: StageWriter) -> None:
        trainers = pl.Series(np.flatnonzero(world.folds.role == "train"), dtype=pl.Int32)
        first_words = world.template.first_words
        texts = (
            rewards.frame("rewards.parquet")
            .filter(pl.col("user").is_in(trainers.implode()))
            .join(prompts.frame("prompts.parquet").select("user", "prompt"), on="user")
            .with_columns(pl.col("text").str.strip_prefix(first_words).alias("completion"))
        )
        if config.reward.choose_by != "measured":
            texts = texts.with_columns(pl.Series("estimate", _estimates(world, texts)))
        pairs = choose_pairs(
            texts, config.reward, alignment.max_pairs, config.tuning_seed, pairs_per_user=n_pairs
        )
        if random:
            pairs = choose_random_pairs(texts, pairs, config.reward, config.tuning_seed)
        writer.write_frame("pairs.parquet", pairs)

    settings = {
        "reward": _choice_settings(config.reward),
        "knowledge": config.knowledge.model_dump(),
        "max_pairs": alignment.max_pairs,
        # Left out at the paper's one, so that runs from before there were more stay valid.
        **({"pairs_per_user": n_pairs} if n_pairs > 1 else {}),
        "random": random,
        "seed": config.tuning_seed,
    }
    folder = "pairs-random" if random else "pairs"
    return world.workspace.stage(f"{name}/{folder}", settings, [rewards, prompts], work)


def _choice_settings(reward: RewardConfig) -> dict[str, object]:
    settings: dict[str, object] = reward.model_dump(exclude={"choose_by", "max_repetition"})
    if reward.max_repetition != MAX_REPETITION:
        # Left out at the default, so that runs from before it could be set stay valid.
        settings["max_repetition"] = reward.max_repetition
    if reward.choose_by == "expected":
        return {**settings, "choose_by": "expected"}
    # A flag said this before there was a third way; with it, runs of that time stay valid.
    return {**settings, "foreseen": reward.choose_by == "foreseen"}


def foreseen(world: World, texts: pl.DataFrame) -> FloatArray:
    """The foreseen part of the rewards of texts (``rewards.parquet``'s rows), ``[n]``."""
    return foreseen_rewards(
        _rewards(world, texts)[:, 0],
        texts["user"].to_numpy().astype(np.int64),
        encode_texts(world, texts),
        profile_vectors(world.histories, world.item_vectors),
        world.item_vectors,
        seed=world.config.seed,
    )


def _estimates(world: World, texts: pl.DataFrame) -> FloatArray:
    """What pairs are chosen by unless it is the measured reward, ``[n]``."""
    told = foreseen(world, texts)
    if world.config.reward.choose_by == "foreseen":
        return told
    rewards = _rewards(world, texts)
    n_lists = texts["n_lists"].fill_null(0).to_numpy().astype(np.int64)
    users = texts["user"].to_numpy().astype(np.int64)
    return expected_rewards(rewards[:, 0], rewards[:, 1:], n_lists, users, told)


def _rewards(world: World, texts: pl.DataFrame) -> FloatArray:
    """``[n, 3]``: on all lists, on those of even and those of odd chunks; NaN where not scored."""
    metric = world.config.reward.metric
    columns = texts.select(metric, f"{metric}_even", f"{metric}_odd").cast(pl.Float64)
    rewards: FloatArray = columns.fill_null(np.nan).to_numpy()
    return rewards


def training_users(world: World, half: int) -> tuple[BoolArray, BoolArray]:
    """The users a half's policy and reward models learn from, and its validation users."""
    own = world.folds.half == half
    return own & (world.folds.role == "train"), own & (world.folds.role == "validation")


def _of_users(texts: pl.DataFrame, users: BoolArray) -> pl.DataFrame:
    return texts.filter(pl.Series(users[texts["user"].to_numpy()]))


def _with_texts(texts: pl.DataFrame, rewards: pl.DataFrame) -> pl.DataFrame:
    """Every reward beside its text; null where a text could not be scored."""
    return texts.join(rewards, on=["user", "sample"], how="left", maintain_order="left")


def _settings(world: World, half: int) -> dict[str, object]:
    config = world.config
    return {
        "reward": {
            **config.reward.model_dump(include={"folds", "seeds", "k"}),
            "backbone": backbone_identity(config.reward.backbone),
        },
        "recommender": config.recommender.model_dump(),
        "knowledge": config.knowledge.model_dump(),
        "kind": config.lists.kind,
        "half": half,
        "seed": config.seed,
    }
