"""Texts that share their prompts are the texts that `generate` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from rlrf4rec.config import GenerationConfig
from rlrf4rec.cuda_graphs import Work
from rlrf4rec.generation import shared_prompts
from rlrf4rec.generation.base import Part, Request, Text
from rlrf4rec.generation.transformers_engine import TransformersEngine

SETTINGS = GenerationConfig(max_new_tokens=13, temperature=1.0, top_p=0.9)
EOS = [258, *range(12)]


@pytest.fixture(scope="module")
def engine(tiny_model_folder: Path) -> TransformersEngine:
    return TransformersEngine(tiny_model_folder, "float32", "cpu", EOS)


PARTS = [Part(9), Part(5, opening=(70, 71, 72)), Part(4, opening=(80,), stop_ids=frozenset([90]))]
"""Lines after which each text goes on, with as many tokens as it has come to."""


def _sample(engine: TransformersEngine, requests: Sequence[Request]) -> list[list[Text]]:
    return list(engine.sample(requests, SETTINGS, PARTS))


def _generate(
    engine: TransformersEngine, requests: Sequence[Request], monkeypatch: pytest.MonkeyPatch
) -> list[list[Text]]:
    with monkeypatch.context() as patched:
        patched.setattr(shared_prompts, "can_share", lambda model: False)
        return _sample(engine, requests)


def _ids(rng: np.random.Generator, length: int) -> list[int]:
    ids: list[int] = rng.integers(40, 256, size=length).tolist()
    return ids


def _own_prompts(seed: int) -> list[Request]:
    """Prompts of 2 to 60 tokens; one to five texts each."""
    rng = np.random.default_rng(seed)
    return [
        Request(_ids(rng, int(rng.integers(2, 60))), list(range(10 * row, 10 * row + count)))
        for row, count in enumerate(rng.integers(1, 6, size=7))
    ]


def _same_prompt(seed: int) -> list[Request]:
    """Seven users of whom four read the same prompt, two texts each."""
    rng = np.random.default_rng(seed)
    prompts = [_ids(rng, length) for length in (40, 7, 23, 31)]
    return [
        Request(prompts[min(row, 3)], [2 * row, 2 * row + 1]) for row in rng.permutation(7).tolist()
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("requests_of", [_own_prompts, _same_prompt])
def test_equals_generate(
    engine: TransformersEngine,
    requests_of: type,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = requests_of(seed)
    assert _sample(engine, requests) == _generate(engine, requests, monkeypatch)


def test_steps_as_a_gpu_records_them(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step for all columns, whose tensors stay in their place; a CPU only does it anew."""
    whole = _sample(engine, _own_prompts(0))
    recorded: list[Work] = []

    def record(work: Work, device: torch.device) -> Work:
        recorded.append(work)
        return work

    monkeypatch.setattr(shared_prompts, "can_record", lambda device: True)
    monkeypatch.setattr(shared_prompts, "record", record)
    assert _sample(engine, _own_prompts(0)) == whole
    assert len(recorded) == 1


def test_what_cannot_be_recorded_is_written_all_the_same(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = _sample(engine, _own_prompts(0))

    def record(work: Work, device: torch.device) -> Work:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(shared_prompts, "can_record", lambda device: True)
    monkeypatch.setattr(shared_prompts, "record", record)
    assert _sample(engine, _own_prompts(0)) == whole
    assert "not recorded, which is slower: out of memory" in caplog.text


def test_a_prompt_of_many_users_does_not_widen_the_others() -> None:
    """Three prompts with 2 rows and one with 5: pairs, of which the last is filled up.

    With 10 steps and prompts of 30 tokens, 6 pairs take 6 * (2 * 10 + 30) = 300 tokens, four groups
    of 5 take 4 * (5 * 10 + 30) = 320.
    """
    prompts = [tuple([number] * 30) for number in range(4)]
    rows = [[0, 1], [2, 3], [4, 5], [6, 7, 8, 9, 10]]
    groups = shared_prompts.even_groups(list(zip(prompts, rows, strict=True)), steps=10)
    assert groups == [
        (prompts[0], [0, 1]),
        (prompts[1], [2, 3]),
        (prompts[2], [4, 5]),
        (prompts[3], [6, 7]),
        (prompts[3], [8, 9]),
        (prompts[3], [10, 6]),
    ]


def test_the_same_number_of_each_stays_together() -> None:
    followers = [((1,) * 9, [0, 1, 2]), ((2,) * 9, [3, 4, 5])]
    assert shared_prompts.even_groups(followers, steps=1000) == followers


def test_in_small_passes(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts one by one, and rows' own tokens prompt by prompt, as little memory asks."""
    whole = _sample(engine, _own_prompts(0))
    monkeypatch.setattr(shared_prompts, "_MOST_TOKENS", 1)
    monkeypatch.setattr(shared_prompts, "_MOST_SCORES", 1)
    assert _sample(engine, _own_prompts(0)) == whole


def test_a_prompt_of_one_token_is_left_to_generate(
    engine: TransformersEngine, caplog: pytest.LogCaptureFixture
) -> None:
    ((text,),) = _sample(engine, [Request([50], [1])])
    assert text.token_ids
    assert "read once for each text" in caplog.text


def test_the_model_is_left_as_it_was(engine: TransformersEngine) -> None:
    _sample(engine, _own_prompts(0))
    assert engine._model.config._attn_implementation == "sdpa"


@pytest.mark.gpu
def test_equals_generate_on_a_gpu(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(tiny_model_folder, "float32", "cuda", EOS)
    for requests in (_own_prompts(0), _same_prompt(0)):
        assert _sample(engine, requests) == _generate(engine, requests, monkeypatch)
