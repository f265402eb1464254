"""What is shown, and against what: scores to results.json."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rlrf4rec.data import popularity
from rlrf4rec.errors import RequestError
from rlrf4rec.evaluation.intervals import compare, estimate
from rlrf4rec.evaluation.metrics import cold_metrics, list_metrics, user_means
from rlrf4rec.evaluation.results import (
    MEAN,
    VARIANTS,
    ComparisonRow,
    Results,
    RewardRow,
    SystemRow,
    tuned_round,
)
from rlrf4rec.records import CandidateLists, Float32Array, FloatArray
from rlrf4rec.stages.costs import peaks_by_step, seconds_by_step, stages_by_step
from rlrf4rec.stages.rewards_table import reward_rows
from rlrf4rec.stages.systems import System, trained_systems
from rlrf4rec.stages.trail import Trail
from rlrf4rec.stages.trials import load_scores, run_system, tested_lists
from rlrf4rec.stages.world import World
from rlrf4rec.stages.zero_shot import read_titles, zero_shot_scores
from rlrf4rec.workers import worker_pool
from rlrf4rec.workspace import Stage

PerList = dict[str, FloatArray]
"""Metric name to values ``[seeds, n]``."""

# Paths of one machine: not part of what was found.
_PATHS = {"path", "interactions", "items", "users"}

# Each tuned round is held against these; the pairs below stand on their own.
_RIVALS = (
    "first_stage",
    "id",
    "profile",
    "history_text",
    "shuffled",
    "random_pairs",
    "untuned",
    "untuned_cool",
    "best_of_n",
)
_PAIRS = [
    ("id", "popularity"),
    ("id", "first_stage"),
    ("id", "llm_zero_shot"),
    ("profile", "id"),
    ("untuned", "id"),
    ("untuned", "shuffled"),
    ("untuned", "llm_zero_shot"),
    ("random_pairs", "untuned"),
    ("untuned_cool", "untuned"),
    ("best_of_n", "untuned"),
    (f"untuned{MEAN}", "untuned"),
]


@dataclass(frozen=True)
class Evaluation:
    """Results, and the stages with every list's scores: by kind of lists, then by system."""

    results: Results
    stages: dict[str, dict[str, Stage]]


def evaluate(world: World, trail: Trail, only: Collection[str] | None = None) -> Evaluation:
    """Train and test every system, and compare them by resampling users.

    Args:
        world: the run.
        trail: its rounds.
        only: of the systems that are trained, these and ``id``, from which all others start; None:
            all.

    Raises:
        RequestError: one of them is not among this run's systems.
    """
    config = world.config
    systems = _chosen(trained_systems(world, trail), only)
    system_rows: list[SystemRow] = []
    comparison_rows: list[ComparisonRow] = []
    stages: dict[str, dict[str, Stage]] = {}
    zero_shot: list[Stage] = []
    with worker_pool(config.machine.processes) as pool:
        for kind in config.evaluation.kinds:
            titles = None
            if config.evaluation.zero_shot:
                titles = read_titles(world, trail.rounds[0].samples, kind)
                zero_shot.append(titles)
            tested = Tested.of_kind(world, kind)
            untrained = {
                name: _metrics(world, tested, scores[None])
                for name, scores in untrained_scores(world, tested, titles).items()
            }
            trained: dict[str, dict[str, PerList]] = {}
            base: Stage | None = None
            for system in systems:
                stage = run_system(world, system, kind, pool, base)
                # The first one ranks by IDs alone; all the others start from it.
                base = base or stage
                stages.setdefault(kind, {})[system.name] = stage
                trained[system.name] = {
                    backbone: _metrics(world, tested, load_scores(world, stage, backbone))
                    for backbone in config.evaluation.backbones
                }
            system_rows += _system_rows(world, tested.lists, untrained, trained)
            comparison_rows += _comparison_rows(world, tested.lists, untrained, trained)
    steps = stages_by_step(
        world,
        trail,
        [stage for by_name in stages.values() for stage in by_name.values()],
        zero_shot,
    )
    primary = config.evaluation.kinds[0]
    first = world.lists(primary).select(tested_lists(world, primary))
    results = Results(
        dataset=world.dataset.name,
        lists=primary,
        folds=world.folds.n_folds,
        seeds=config.evaluation.seeds,
        n_users=len(np.unique(first.user)),
        n_lists=len(first),
        n_lists_without_positive=int((~first.labels.any(axis=1)).sum()),
        systems=system_rows,
        comparisons=comparison_rows,
        rewards=_rewards(world, trail),
        seconds=seconds_by_step(steps),
        peak_mb=peaks_by_step(steps),
        config=json.loads(config.model_dump_json(exclude={"machine": True, "data": _PATHS})),
    )
    return Evaluation(results, stages)


def _chosen(systems: list[System], only: Collection[str] | None) -> list[System]:
    if only is None:
        return systems
    known = [system.name for system in systems]
    for name in only:
        if name not in known:
            raise RequestError(
                f"systems among {', '.join(known)}", found=name, remedy="Leave it out."
            )
    return [system for system in systems if system.name in {"id", *only}]


@dataclass(frozen=True)
class Tested:
    """Tested lists, and what training may know of their candidates.

    Attributes:
        lists: ``n`` lists.
        known: ``[n, l]``, interactions of each candidate that whoever ranks the list may know.
    """

    lists: CandidateLists
    known: FloatArray

    @classmethod
    def of_kind(cls, world: World, kind: str) -> Tested:
        """A test user's feedback is not counted as known."""
        lists = world.lists(kind).select(tested_lists(world, kind))
        known = np.zeros(lists.items.shape)
        fold = world.folds.fold
        for number in range(world.folds.n_folds):
            counts = popularity(world.dataset, fold != number, world.histories)
            rows = fold[lists.user] == number
            known[rows] = counts[lists.items[rows]]
        return cls(lists, known)


def untrained_scores(world: World, tested: Tested, titles: Stage | None) -> dict[str, FloatArray]:
    """Systems without a recommender, ``[n, l]``.

    Random order; popularity; the first stage's order, where the candidates were retrieved; the LLM
    by itself, where its likelihoods were computed.
    """
    lists = tested.lists
    rng = np.random.default_rng([world.config.seed, 2])
    scores = {"random": rng.random(lists.items.shape), "popularity": tested.known}
    if lists.first_stage is not None:
        scores["first_stage"] = lists.first_stage.astype(np.float64)
    if titles is not None:
        scores["llm_zero_shot"] = zero_shot_scores(world, titles, lists.kind)
    return scores


def _metrics(world: World, tested: Tested, scores: FloatArray | Float32Array) -> PerList:
    """Metrics of each list, from scores ``[seeds, n, l]``."""
    seeds, n, size = scores.shape
    labels = np.tile(tested.lists.labels, (seeds, 1))
    flat_scores = scores.reshape(seeds * n, size).astype(np.float64)
    ks = world.config.evaluation.ks
    cold = np.tile(tested.known <= world.config.evaluation.cold_interactions, (seeds, 1))
    flat = list_metrics(labels, flat_scores, ks) | cold_metrics(labels, flat_scores, cold, ks)
    per_list = {name: values.reshape(seeds, n) for name, values in flat.items()}
    by_user = {f"user_ndcg@{k}": user_means(per_list[f"ndcg@{k}"], tested.lists.user) for k in ks}
    return per_list | by_user


def _system_rows(
    world: World,
    lists: CandidateLists,
    untrained: dict[str, PerList],
    trained: dict[str, dict[str, PerList]],
) -> list[SystemRow]:
    entries: list[tuple[str, str | None, PerList]] = [
        (name, None, values) for name, values in untrained.items()
    ]
    entries += [
        (name, backbone, values)
        for name, by_backbone in trained.items()
        for backbone, values in by_backbone.items()
    ]
    rows = []
    for name, backbone, values in entries:
        for metric, per_list in values.items():
            found = estimate(per_list, lists.user, resamples=world.config.evaluation.resamples)
            rows.append(
                SystemRow(
                    system=name,
                    backbone=backbone,
                    metric=metric,
                    mean=found.mean,
                    ci95=found.ci95,
                    n_users=found.n_users,
                    n_lists=found.n_lists,
                    kind=lists.kind,
                )
            )
    return rows


def _comparison_rows(
    world: World,
    lists: CandidateLists,
    untrained: dict[str, PerList],
    trained: dict[str, dict[str, PerList]],
) -> list[ComparisonRow]:
    rows = []
    for a, b in _compared(untrained, trained):
        for backbone in world.config.evaluation.backbones:
            ours = trained[a][backbone]
            theirs = untrained[b] if b in untrained else trained[b][backbone]
            for metric in ours:
                found = compare(
                    ours[metric],
                    theirs[metric],
                    lists.user,
                    resamples=world.config.evaluation.resamples,
                )
                rows.append(
                    ComparisonRow(
                        a=a,
                        b=b,
                        backbone=backbone,
                        metric=metric,
                        diff=found.diff,
                        ci95=found.ci95,
                        p=found.p,
                        n_users=found.n_users,
                        n_lists=found.n_lists,
                        kind=lists.kind,
                    )
                )
    return rows


def _compared(
    untrained: dict[str, PerList], trained: dict[str, dict[str, PerList]]
) -> list[tuple[str, str]]:
    latest_first = list(reversed(trained))
    tuned = [
        name for name in latest_first if (found := tuned_round(name)) is not None and not found[1]
    ]
    pairs = [(name, rival) for name in tuned for rival in _RIVALS]
    for variant in VARIANTS:
        untuned = f"untuned{variant}"
        pairs += [
            (name, rival)
            for name in latest_first
            if name == untuned or ((found := tuned_round(name)) and found[1] == variant)
            for rival in ("id", "profile", "history_text", untuned)
            if name != rival
        ]
    pairs += list(pairwise(tuned)) + _PAIRS
    known = {*trained, *untrained}
    return [(a, b) for a, b in pairs if a in trained and b in known]


def _rewards(world: World, trail: Trail) -> list[RewardRow]:
    return [
        row
        for current in trail.rounds
        for row in reward_rows(world, current.number, list(current.judged.items()))
    ]
