"""The algorithm. Each line is a call into one room; nothing here knows a file or a tensor.

    for round in 0 .. T:
        samples  = write(policy, prompts, n)         # step 1: N preference texts per user
        rewards  = fit and reward(samples)           # steps 2, 3: knowledge-augmented recommender,
                                                     #   which is the reward model
        if round == T or the held-out reward fell: stop
        pairs    = choose(samples, rewards)          # step 4: best and worst of N
        if texts no longer differ by the margin: stop
        policy   = align(policy, pairs)              # step 5: structure alignment, DPO

A *policy* is tuned on one half of the users (an LLM fold) and writes, for evaluation, only for
users it has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlrf4rec.records import BoolArray
from rlrf4rec.stages.prompting import write_prompts
from rlrf4rec.stages.rewarding import choose, fit_and_reward, judge
from rlrf4rec.stages.rewards_table import validation_reward
from rlrf4rec.stages.trail import Round, Trail
from rlrf4rec.stages.tuning import align, has_pairs
from rlrf4rec.stages.world import World
from rlrf4rec.stages.writing import write_texts
from rlrf4rec.workspace import Stage


def run_rounds(world: World, policies: Sequence[int] | None = None) -> Trail:
    """Steps 1 to 5, T times. What is finished already is not done again.

    Args:
        world: the run.
        policies: only these; None: all. One needs nothing of another, so each may be run in a
            process of its own. Rounds are then stopped early by what this policy's users say, and
            texts of no policy but the untuned LLM's first ones are left out.
    """
    config = world.config
    cool = config.evaluation.cool_temperature if policies is None else None
    policies = world.folds.policies if policies is None else policies
    trail = Trail(write_prompts(world))
    for number in range(config.rounds.n_rounds + 1):
        current = Round(number, pairs=_pairs(world, trail, policies))
        if number > 1 and not _may_learn(world, current):
            break
        _complete(world, trail, current, policies)
        trail.rounds.append(current)
        if _reward_fell(world, trail):
            trail.stopped_early = True
            break
    if config.alignment.random_pairs and config.rounds.n_rounds > 0:
        trail.random_pairs = _random_pairs(world, trail, policies)
    if cool is not None:
        trail.cool = _write_cool_texts(world, trail.prompts, cool)
    return trail


def write_first_texts(world: World, prompts: Stage) -> Stage:
    """The untuned LLM's texts of everybody: round 0, which all policies share."""
    everyone = _each(world.folds.written, world.config.generation.n_samples)
    return write_texts(world, "round-0/base", everyone, prompts, None)


def _pairs(world: World, trail: Trail, policies: Sequence[int]) -> dict[int, Stage]:
    """What each policy learns from next: pairs of its last texts; nothing before the first."""
    if not trail.rounds:
        return {}
    last = trail.rounds[-1]
    return {
        half: choose(world, last.folder(half), last.rewards[half], trail.prompts, random=False)
        for half in policies
    }


def _may_learn(world: World, current: Round) -> bool:
    """Whether each policy has pairs to learn from."""
    run = world.workspace.folder
    return all(has_pairs(run, current.folder(half), one) for half, one in current.pairs.items())


def _complete(world: World, trail: Trail, current: Round, policies: Sequence[int]) -> None:
    """Tune on the round's pairs, write texts and reward them."""
    number = current.number
    before = trail.rounds[-1] if trail.rounds else None
    for half in policies:
        if before is None:
            current.samples[half] = write_first_texts(world, trail.prompts)
        else:
            current.tuning[half] = align(
                world, current.folder(half), current.pairs[half], before.tuning.get(half)
            )
            current.samples[half] = write_texts(
                world,
                current.folder(half),
                _plan(
                    world,
                    half,
                    few=world.config.texts_per_user,
                    last=number == world.config.rounds.n_rounds,
                ),
                trail.prompts,
                current.tuning[half],
            )
        if number < max(1, world.config.rounds.n_rounds):
            current.rewards[half] = fit_and_reward(
                world, current.folder(half), current.samples[half], half
            )
        judges = (trail.rounds[0] if trail.rounds else current).rewards[half]
        current.judged[half] = judge(
            world, current.folder(half), current.samples[half], judges, half
        )


def _random_pairs(world: World, trail: Trail, policies: Sequence[int]) -> Round:
    """The control: round 1 again, with pairs chosen without looking at the rewards."""
    control, first = Round(1), trail.rounds[0]
    for half in policies:
        name = f"random-pairs/policy-{half}"
        control.pairs[half] = choose(
            world, first.folder(half), first.rewards[half], trail.prompts, random=True
        )
        control.tuning[half] = align(world, name, control.pairs[half], None)
        one_text = _plan(world, half, few=1, last=True)
        control.samples[half] = write_texts(
            world, name, one_text, trail.prompts, control.tuning[half]
        )
    return control


def _write_cool_texts(world: World, prompts: Stage, temperature: float) -> Stage:
    """The baseline: round 0's LLM at another temperature, one text of everybody."""
    generation = world.config.generation.model_copy(update={"temperature": temperature})
    cooler = replace(world, config=world.config.model_copy(update={"generation": generation}))
    return write_texts(cooler, "cool", _each(world.folds.written, 1), prompts, None)


def _plan(world: World, half: int, *, few: int, last: bool) -> dict[int, int]:
    """How many texts a tuned policy writes for whom.

    Its own users get N while there is a next round to choose pairs for. For evaluation it writes
    `few` for users it was not tuned on; with protocol ``split`` also for its own, whom the
    evaluated recommender is trained on.
    """
    folds = world.folds
    own = folds.half == half
    evaluated = folds.written & ~own if folds.protocol == "cross" else folds.written
    validation = own & (folds.role == "validation")
    plan = _each(evaluated | validation, few)
    if not last:
        plan |= _each(own, world.config.generation.n_samples)
    return plan


def _each(users: BoolArray, n_texts: int) -> dict[int, int]:
    """As many texts of each of the users ``[u]``."""
    return dict.fromkeys(np.flatnonzero(users).tolist(), n_texts)


def _reward_fell(world: World, trail: Trail) -> bool:
    """Whether the last round's texts earn less than those before, on validation users."""
    if not world.config.rounds.early_stop or len(trail.rounds) < 2:
        return False
    before, after = (
        validation_reward(world, list(current.judged.items())) for current in trail.rounds[-2:]
    )
    return before is not None and after is not None and after < before
