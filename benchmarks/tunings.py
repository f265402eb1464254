"""What feedback gains over several tunings: python benchmarks/tunings.py RUN RUN …

The runs differ in `alignment.seed` alone (axis ``tuning_seed`` of `rlrf4rec ablate`); what not all
of them have tested, such as the control of random pairs, is left out. A run's interval resamples
users and says nothing of the luck of its one tuning; so each difference is shown for each tuning,
and then for all of them averaged list by list.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from command import call
from rlrf4rec.evaluation.metrics import ndcg
from rlrf4rec.evaluation.words import backbone_label
from rlrf4rec.records import FloatArray
from rlrf4rec.running import run_config
from rlrf4rec.stages.trials import load_scores, tested_lists
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace, read_stage
from tuned import difference

K = 5
PAIRS = (
    ("tuned_round_1", "untuned"),
    ("random_pairs", "untuned"),
    ("tuned_round_1", "random_pairs"),
    ("tuned_round_1", "profile"),
    ("tuned_round_1", "history_text"),
    ("tuned_round_1_with_history", "history_text"),
)


def main(runs: list[Path]) -> None:
    """Print one line a reranker, pair of systems and run, and one for all runs."""
    worlds = [open_world(run_config(run), Workspace(run, replay=True)) for run in runs]
    config = worlds[0].config
    users = worlds[0].lists().select(tested_lists(worlds[0], config.lists.kind)).user
    everywhere = set.intersection(*(_tested(run, config.lists.kind) for run in runs))
    tested = [pair for pair in PAIRS if everywhere.issuperset(pair)]
    for backbone in config.evaluation.backbones:
        for a, b in tested:
            values = [
                (_per_list(world, run, a, backbone), _per_list(world, run, b, backbone))
                for world, run in zip(worlds, runs, strict=True)
            ]
            every = (
                np.concatenate([ours for ours, _ in values]),
                np.concatenate([theirs for _, theirs in values]),
            )
            names = [*map(str, runs), "all"]
            for name, (ours, theirs) in zip(names, [*values, every], strict=True):
                gain = difference(ours, theirs, users)
                print(f"{backbone_label(backbone)}  {a} - {b}  {gain}  {name}")


def _tested(run: Path, kind: str) -> set[str]:
    """The systems that a run has tested."""
    folder = run / "evaluation" / kind
    return {path.name for path in folder.iterdir() if read_stage(path) is not None}


def _per_list(world: World, run: Path, system: str, backbone: str) -> FloatArray:
    """NDCG of each tested list, ``[seeds, n]``."""
    kind = world.config.lists.kind
    stage = read_stage(run / "evaluation" / kind / system)
    assert stage is not None
    labels = world.lists(kind).select(tested_lists(world, kind)).labels
    return np.stack([ndcg(labels, scores, K) for scores in load_scores(world, stage, backbone)])


if __name__ == "__main__":
    call(lambda given: main([Path(run) for run in given]), least=2)
