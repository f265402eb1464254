"""What a run's reward hears, and what tuning gained: python benchmarks/feedback.py RUN [half]

Only users of one LLM fold (half) are looked at, so that choices made by these figures do not touch
the other half. Printed, within users:

- the reward's spread and its split-half correlation (even against odd feedback chunks);
- its correlation with the likeness of text and history, and with the part that is foreseen;
- what choosing the best of N by the foreseen part gains, against choosing by the reward itself;
- for each tuned round: reward and NDCG@k of its texts for users of the half that gave no pair,
  against the untuned LLM's texts for the same users, under the same cross-fitted judges.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from command import call
from rlrf4rec.feedback import RewardModels
from rlrf4rec.feedback.foresight import within
from rlrf4rec.knowledge.texts import profile_vectors
from rlrf4rec.records import FloatArray, IntArray
from rlrf4rec.running import run_config
from rlrf4rec.stages.rewarding import foreseen, rewarded_texts
from rlrf4rec.stages.text_inputs import encode_texts
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.stages.writing import write_texts
from rlrf4rec.workspace import Stage, Workspace

METRICS = ("log_likelihood", "ndcg")
N_SAMPLES = 2


def main(folder: Path, half: int) -> None:
    """Print everything for one half of a run."""
    workspace = Workspace(folder, replay=True)
    world = open_world(run_config(folder), workspace)
    texts = _stage(workspace, f"round-0/policy-{half}/rewards").frame("rewards.parquet")
    _hearing(world, texts.drop_nulls([f"{m}_{p}" for m in METRICS for p in ("even", "odd")]))
    models = RewardModels.load(folder / f"round-0/policy-{half}/rewards/models")
    for number in range(1, world.config.rounds.n_rounds + 1):
        _gain(world, workspace, models, texts, half, number)


def _hearing(world: World, texts: pl.DataFrame) -> None:
    _, group = np.unique(texts["user"].to_numpy(), return_inverse=True)
    for metric in METRICS:
        value, even, odd = (
            within(texts[name].to_numpy(), group)
            for name in (metric, f"{metric}_even", f"{metric}_odd")
        )
        print(f"{metric}: spread {value.std():.3f}, split-half {_correlation(even, odd):.3f}")
    metric = world.config.reward.metric
    reward = within(texts[metric].to_numpy(), group)
    vectors = encode_texts(world, texts)
    profiles = profile_vectors(world.histories, world.item_vectors)
    users = texts["user"].to_numpy().astype(np.int64)
    expected = foreseen(world, texts)
    likeness = ((vectors - vectors.mean(0)) * (profiles - profiles.mean(0))[users]).sum(1)
    print(
        f"reward and likeness to the history: {_correlation(within(likeness, group), reward):.3f}"
    )
    print(f"reward and its foreseen part: {_correlation(expected, reward):.3f}")
    for name, choice in (("foreseen part", expected), ("reward itself", reward)):
        print(f"best of N by the {name}: {_best(choice, reward, group):+.4f}")


def _gain(
    world: World,
    workspace: Workspace,
    models: RewardModels,
    untuned: pl.DataFrame,
    half: int,
    number: int,
) -> None:
    name = f"round-{number}/policy-{half}"
    seen: set[int] = set()
    for earlier in range(1, number + 1):
        # A round's pairs are chosen among the texts of the one before, and lie there.
        chosen_in = f"round-{earlier - 1}/policy-{half}/pairs"
        pairs = _stage(workspace, chosen_in).frame("pairs.parquet")
        seen.update(pairs["user"].to_list())
    users = [int(user) for user in np.flatnonzero(world.folds.half == half) if user not in seen]
    with TemporaryDirectory() as temporary:
        aside = dataclasses.replace(world, workspace=Workspace(temporary))
        written = write_texts(
            aside,
            name,
            dict.fromkeys(users, N_SAMPLES),
            _stage(workspace, "prompts"),
            _stage(workspace, f"{name}/tuning"),
        ).frame("samples.parquet")
    tuned = rewarded_texts(world, models, written)
    before = untuned.filter(pl.col("user").is_in(users))
    share = [_mean(frame["structure_ok"]) for frame in (tuned, before)]
    print(f"round {number}: well-formed {share[0]:.3f}, before {share[1]:.3f}")
    for metric in METRICS:
        both = _by_user(tuned, metric).join(_by_user(before, metric), on="user", suffix="_before")
        both = both.drop_nulls()
        gain = (both[metric] - both[f"{metric}_before"]).to_numpy()
        width = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5
        best = before.filter(pl.col("sample") < 4).group_by("user").agg(pl.col(metric).max())
        print(
            f"  {metric}: {_mean(both[metric]):.4f}, {gain.mean():+.4f} ± {width:.4f} against "
            f"untuned ({len(gain)} users); best of 4 untuned {_mean(best[metric].drop_nulls()):.4f}"
        )


def _stage(workspace: Workspace, name: str) -> Stage:
    return Stage(workspace.folder / name, "", 0.0)


def _by_user(texts: pl.DataFrame, metric: str) -> pl.DataFrame:
    return texts.group_by("user").agg(pl.col(metric).mean()).sort("user")


def _mean(values: pl.Series) -> float:
    return float(values.cast(pl.Float64).to_numpy().mean())


def _correlation(a: FloatArray, b: FloatArray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _best(choice: FloatArray, reward: FloatArray, group: IntArray) -> float:
    """Mean reward, within users, of each user's first text by ``choice``."""
    order = np.lexsort((-choice, group))
    first = order[np.flatnonzero(np.r_[True, np.diff(group[order]) > 0])]
    return float(reward[first].mean())


if __name__ == "__main__":
    call(lambda given: main(Path(given[0]), int(given[1]) if given[1:] else 0), least=1)
