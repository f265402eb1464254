"""Where a run's time and memory went."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from rlrf4rec.stages.trail import Trail
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage


def stages_by_step(
    world: World, trail: Trail, evaluation: Iterable[Stage], zero_shot: Collection[Stage]
) -> dict[str, list[Stage]]:
    """The stages of each step and round (``generate/0``)."""
    steps = {"data": [world.data], "prompts": [trail.prompts]}
    if world.first_stage is not None:
        steps["first_stage"] = [world.first_stage]
    for current in trail.rounds:
        of_round = {
            "tune": current.tuning,
            "generate": current.samples,
            "reward": current.rewards,
            "judge": current.judged,
        }
        for step, stages in of_round.items():
            if stages:
                steps[f"{step}/{current.number}"] = list(stages.values())
    if trail.random_pairs is not None:
        steps["tune/random_pairs"] = list(trail.random_pairs.tuning.values())
        steps["generate/random_pairs"] = list(trail.random_pairs.samples.values())
    if trail.cool is not None:
        steps["generate/cool"] = [trail.cool]
    if zero_shot:
        steps["zero_shot"] = list(zero_shot)
    return steps | {"evaluate": list(evaluation)}


def seconds_by_step(steps: Mapping[str, Iterable[Stage]]) -> dict[str, float]:
    """Wall seconds, over all attempts."""
    return {
        # In round 0 both policies share one stage.
        step: sum({stage.folder: stage.seconds for stage in stages}.values())
        for step, stages in steps.items()
    }


def peaks_by_step(steps: Mapping[str, Iterable[Stage]]) -> dict[str, float]:
    """Largest peak of memory, in megabytes; without the steps of which none is known."""
    known = {
        step: [stage.peak_mb for stage in stages if stage.peak_mb is not None]
        for step, stages in steps.items()
    }
    return {step: max(peaks) for step, peaks in known.items() if peaks}
