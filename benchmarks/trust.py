"""How far a recommender should trust a text: python benchmarks/trust.py RUN [key=value …]

For one and for several texts a user (the mean of their vectors), NDCG@5 on the lists of LLM fold 0
only, one seed, mean of the rerankers, by one and the same trained recommender: with the user's own
text at some weights (0: the mean text of all users, 1: as it stands), with another user's text, and
with none. Where the best weight is below 1, texts are trusted more than they deserve.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from command import call
from evaluate_texts import finished_rounds
from rlrf4rec.config import load_config
from rlrf4rec.evaluation.metrics import ndcg
from rlrf4rec.records import BoolArray, FloatArray, IntArray
from rlrf4rec.stages.systems import System, both_halves, held_out_texts, one_other
from rlrf4rec.stages.text_inputs import user_vectors
from rlrf4rec.stages.trials import Trial, fitted_folds, trial_inputs, trial_of
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workers import worker_pool
from rlrf4rec.workspace import Workspace

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
NUMBERS = (1, 2, 4, 8)


def main(folder: Path, overrides: list[str]) -> None:
    """Print a row a round, number of texts and way of reading."""
    with TemporaryDirectory() as temporary:
        world = open_world(load_config(folder / "config.yaml", overrides), Workspace(temporary))
        kind, backbones = world.config.lists.kind, world.config.evaluation.backbones
        systems = _systems(world, folder)
        lent = one_other(world.dataset.n_users, np.random.default_rng(0))
        with worker_pool(0) as pool:
            trials = [
                trial_of(world, system, kind, backbone, 0)
                for system in systems
                for backbone in backbones
            ]
            mine = world.folds.half == 0
            found = list(pool.map(_read, trials, [mine] * len(trials), [lent] * len(trials)))
    for place, system in enumerate(systems):
        rows = found[place * len(backbones) : (place + 1) * len(backbones)]
        for way in rows[0]:
            values = [row[way] for row in rows]
            cells = " ".join(f"{value:.4f}" for value in values)
            print(f"{system.name:22s} {way:16s} {np.mean(values):.4f}  ({cells})")


def _systems(world: World, folder: Path) -> list[System]:
    systems = []
    for current in finished_rounds(folder, world.folds.policies).rounds:
        for n_texts in NUMBERS:
            texts = held_out_texts(world, current.samples, n_texts)
            if texts["sample"].n_unique() == n_texts:
                name = f"round {current.number}, mean of {n_texts}"
                systems.append(_system(world, name, texts))
    return systems


def _system(world: World, name: str, texts: pl.DataFrame) -> System:
    vectors, rows = user_vectors(world, texts)
    return System(name, vectors, both_halves(rows))


def _read(trial: Trial, mine: BoolArray, lent: IntArray) -> dict[str, float]:
    """NDCG@5 by the way a user's text is read.

    Args:
        trial: its texts are one a user, in the users' order.
        mine: ``[u]``, the users that are looked at.
        lent: ``[u]``, whose text a user reads as another user's.
    """
    inputs = trial_inputs(trial)
    own = trial.rows[:, 0]
    row_of_user = np.full(len(lent), -1)
    row_of_user[trial.lists.user] = own
    other = row_of_user[lent[trial.lists.user]]
    ways = {f"own × {weight}": (own, weight) for weight in WEIGHTS}
    ways |= {"another user's": (other, 1.0), "none": (np.full_like(own, -1), 1.0)}
    values: dict[str, list[FloatArray]] = {way: [] for way in ways}
    for fitted, tested in fitted_folds(trial, inputs):
        space = fitted.model.features.space
        assert space is not None and inputs.user_knowledge is not None
        test = tested & mine[trial.lists.user]
        lists = trial.lists.select(test)
        for way, (rows, weight) in ways.items():
            scaled = space.user_mean + weight * (inputs.user_knowledge - space.user_mean)
            scores = fitted.score(
                dataclasses.replace(inputs, user_knowledge=scaled), lists, rows[test]
            )
            values[way].append(ndcg(lists.labels, scores, 5))
    return {way: float(np.nanmean(np.concatenate(parts))) for way, parts in values.items()}


if __name__ == "__main__":
    call(lambda given: main(Path(given[0]), given[1:]), least=1)
