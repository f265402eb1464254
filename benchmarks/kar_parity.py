"""Our rerankers without knowledge against KAR's published ones and popularity, on the same lists.

    python benchmarks/kar_parity.py RUN RESULTS.json

MovieLens-100K, every user tested once over the folds, two seeds. Resumes in the folder RUN when it
is cut off. docs/concepts/kar.md says what is compared and what came out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from command import call
from kar_models import DESIGNS, fit_kar
from rlrf4rec.config import Config, parse_config
from rlrf4rec.evaluation.intervals import compare, estimate
from rlrf4rec.evaluation.metrics import list_metrics
from rlrf4rec.records import Float32Array, FloatArray, IntArray
from rlrf4rec.stages.evaluating import Tested, untrained_scores
from rlrf4rec.stages.systems import without_text
from rlrf4rec.stages.trials import load_scores, run_system, tested_lists
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workers import worker_pool
from rlrf4rec.workspace import Stage, StageWriter, Workspace, write_json

KINDS = ("uniform", "popular")
OURS = ("dlcm", "prm", "setrank", "mir")
SEEDS = (0, 1)
METRIC = "ndcg@5"

PerList = dict[str, FloatArray]
"""A system's name to NDCG@5 of each tested list, ``[seeds, n]``."""


def parity_config() -> Config:
    """KAR's protocol (one draw of negatives), over all folds."""
    return parse_config(
        {
            "data": {"name": "ml-100k"},
            "lists": {"draws": 1},
            "evaluation": {"kinds": list(KINDS), "backbones": list(OURS), "seeds": list(SEEDS)},
            "machine": {"processes": 1},
        }
    )


def first_genres(world: World) -> IntArray:
    """Each item's first genre as a number, ``[i]``; details read ``1995; Action, Comedy``."""
    genres = [details.split("; ")[-1].split(", ")[0] for details in world.dataset.items["details"]]
    return np.unique(genres, return_inverse=True)[1].astype(np.int64)


def run_kar(world: World, kind: str, design: str) -> Stage:
    """Train and test one of KAR's designs; writes ``<seed>-<fold>.npy``, a file a training."""
    lists, tested = world.lists(kind), tested_lists(world, kind)
    genre = first_genres(world)
    fold = world.folds.fold[lists.user]
    validation = (world.folds.role == "validation")[lists.user]

    def work(writer: StageWriter) -> None:
        for seed, number in _trainings(world):
            if writer.has(f"{seed}-{number}.npy"):
                continue
            others = fold != number
            fitted = fit_kar(
                design,
                lists,
                genre,
                others & ~validation,
                others & validation,
                seed=seed * 1000 + number,
            )
            scores = fitted.score(lists.select((fold == number) & tested))
            # Through a handle: numpy adds .npy to the name of a file that it opens itself.
            writer.write(f"{seed}-{number}.npy", partial(_save, scores))

    needs = world.list_stages(kind)
    return world.workspace.stage(f"kar/{kind}/{design}", {"seeds": SEEDS}, needs, work)


def load_kar(world: World, kind: str, stage: Stage) -> FloatArray:
    """``[seeds, n, l]``."""
    lists = world.lists(kind).select(tested_lists(world, kind))
    fold = world.folds.fold[lists.user]
    scores = np.empty((len(SEEDS), *lists.items.shape))
    for seed, number in _trainings(world):
        scores[SEEDS.index(seed), fold == number] = np.load(stage.folder / f"{seed}-{number}.npy")
    return scores


def measure(world: World, kind: str) -> dict[str, object]:
    """Train and test everything on one kind of lists: means and paired differences."""
    tested = Tested.of_kind(world, kind)
    lists = tested.lists
    found = {name: scores[None] for name, scores in untrained_scores(world, tested, None).items()}
    for design in DESIGNS:
        found[f"kar-{design}"] = load_kar(world, kind, run_kar(world, kind, design))
    with worker_pool(world.config.machine.processes) as pool:
        stage = run_system(world, without_text(world), kind, pool)
    for backbone in OURS:
        found[backbone] = load_scores(world, stage, backbone).astype(np.float64)
    values: PerList = {
        name: np.stack([list_metrics(lists.labels, one, [5])[METRIC] for one in scores])
        for name, scores in found.items()
    }
    resamples = world.config.evaluation.resamples
    return {
        "n_lists": len(lists),
        "n_lists_without_positive": int((~lists.labels.any(axis=1)).sum()),
        "means": {
            name: asdict(estimate(value, lists.user, resamples=resamples))
            for name, value in values.items()
        },
        "differences": {
            f"{a} - {b}": asdict(compare(values[a], values[b], lists.user, resamples=resamples))
            for a, b in _pairs()
        },
    }


def markdown(results: dict[str, dict[str, dict[str, dict[str, Any]]]]) -> str:
    """One row a system, one column a kind of lists. `Any`: numbers and pairs, as read from JSON."""
    kinds = list(results)
    lines = ["| | " + " | ".join(kinds) + " |", "|---|" + "---|" * len(kinds)]
    for part, value, form in (("means", "mean", ".3f"), ("differences", "diff", "+.3f")):
        for name in results[kinds[0]][part]:
            cells = [_cell(results[kind][part][name], value, form) for kind in kinds]
            lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(found: dict[str, Any], value: str, form: str) -> str:
    low, high = found["ci95"]
    return f"{found[value]:{form}} ({low:{form}} to {high:{form}})"


def _pairs() -> Iterator[tuple[str, str]]:
    for backbone in OURS:
        if backbone in DESIGNS:
            yield backbone, f"kar-{backbone}"
        yield backbone, "popularity"
    for design in DESIGNS:
        yield f"kar-{design}", "popularity"


def _trainings(world: World) -> list[tuple[int, int]]:
    return [(seed, number) for seed in SEEDS for number in range(world.folds.n_folds)]


def _save(scores: Float32Array, path: Path) -> None:
    with path.open("wb") as handle:
        np.save(handle, scores, allow_pickle=False)


def main(run: Path, target: Path) -> None:
    """Measure in the folder ``run``, write the figures to ``target`` and print them."""
    torch.set_num_threads(1)
    workspace = Workspace(run)
    with workspace.lock():
        world = open_world(parity_config(), workspace)
        kinds = {kind: measure(world, kind) for kind in KINDS}
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, {"dataset": "ml-100k", "metric": METRIC, "seeds": SEEDS, "kinds": kinds})
    sys.stdout.write(markdown(json.loads(target.read_text(encoding="utf-8"))["kinds"]))


if __name__ == "__main__":
    call(lambda given: main(Path(given[0]), Path(given[1])), least=2)
