"""Where a run's time went."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rlrf4rec.stages.trail import Trail
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage


def seconds_by_step(
    world: World, trail: Trail, evaluation: Iterable[Stage], zero_shot: Collection[Stage]
) -> dict[str, float]:
    """Wall seconds by step and round (``generate/0``), over all attempts."""
    seconds = {
        "data": world.data.seconds,
        "prompts": trail.prompts.seconds,
    }
    if world.first_stage is not None:
        seconds["first_stage"] = world.first_stage.seconds
    for current in trail.rounds:
        steps = {
            "tune": current.tuning,
            "generate": current.samples,
            "reward": current.rewards,
            "judge": current.judged,
        }
        for step, stages in steps.items():
            if stages:
                seconds[f"{step}/{current.number}"] = _total(stages.values())
    if trail.random_pairs is not None:
        seconds["tune/random_pairs"] = _total(trail.random_pairs.tuning.values())
        seconds["generate/random_pairs"] = _total(trail.random_pairs.samples.values())
    if zero_shot:
        seconds["zero_shot"] = _total(zero_shot)
    seconds["evaluate"] = _total(evaluation)
    return seconds


def _total(stages: Iterable[Stage]) -> float:
    # In round 0 both policies share one stage.
    return sum({stage.folder: stage.seconds for stage in stages}.values())
