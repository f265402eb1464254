"""The order of pairs."""

from __future__ import annotations

from itertools import pairwise

from rlrf4rec.alignment.batches import PromptSampler

PROMPTS = ["a", "b", "a", "c", "b", "a"]


def test_pairs_of_one_prompt_stand_together_and_none_is_lost() -> None:
    order = list(PromptSampler(PROMPTS, seed=0))
    assert sorted(order) == list(range(6))
    assert len(PromptSampler(PROMPTS, seed=0)) == 6
    named = [PROMPTS[pair] for pair in order]
    changes = sum(before != after for before, after in pairwise(named))
    assert changes == 2


def test_the_order_changes_with_epoch_and_seed_and_repeats_itself() -> None:
    prompts = [str(number) for number in range(50)]
    sampler = PromptSampler(prompts, seed=0)
    first, again = list(sampler), list(sampler)
    assert first == again
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(PromptSampler(prompts, seed=1)) != first
