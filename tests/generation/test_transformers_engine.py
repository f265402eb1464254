"""Seeded sampling, and the engine that runs anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from rlrf4rec.config import GenerationConfig
from rlrf4rec.generation import transformers_engine
from rlrf4rec.generation.base import Part, Request, Text, text_of
from rlrf4rec.generation.transformers_engine import SeededSampling, TransformersEngine

LIKELY = [0.5, 0.3, 0.15, 0.05]


def _frequencies(probabilities: Sequence[float], temperature: float, top_p: float) -> list[float]:
    """How often each token is drawn with the seeds 0 … 19999."""
    n = 20_000
    logits = torch.tensor(probabilities).log().expand(n, -1)
    sampling = SeededSampling(range(n), temperature, top_p, steps=1)
    drawn = sampling(torch.zeros(n, 1, dtype=torch.long), logits).argmax(-1)
    return (torch.bincount(drawn, minlength=len(probabilities)) / n).tolist()


class TestSeededSampling:
    def test_draws_in_proportion(self) -> None:
        """The standard error of a share is below 0.0036; the seeds are fixed."""
        assert _frequencies(LIKELY, 1.0, 1.0) == pytest.approx(LIKELY, abs=0.012)

    def test_the_order_of_tokens_does_not_matter(self) -> None:
        assert _frequencies(LIKELY[::-1], 1.0, 1.0) == pytest.approx(LIKELY[::-1], abs=0.012)

    def test_temperature_sharpens(self) -> None:
        """At 0.5 probabilities are squared: 0.25, 0.09, 0.0225, 0.0025 of 0.365."""
        expected = [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]
        assert _frequencies(LIKELY, 0.5, 1.0) == pytest.approx(expected, abs=0.012)

    @pytest.mark.parametrize(
        ("top_p", "expected"),
        [
            (0.5, [1, 0, 0, 0]),
            (0.51, [0.625, 0.375, 0, 0]),
            (0.7, [0.625, 0.375, 0, 0]),
            (0.9, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
            (0.001, [1, 0, 0, 0]),
        ],
    )
    def test_top_p_keeps_the_nucleus(self, top_p: float, expected: list[float]) -> None:
        """The smallest set with at least this mass: 0.5 + 0.3 for 0.7."""
        found = _frequencies(LIKELY, 1.0, top_p)
        assert found == pytest.approx(expected, abs=0.012)
        assert [share == 0 for share in found] == [share == 0 for share in expected]

    def test_leaves_no_choice(self) -> None:
        logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
        scores = SeededSampling([1, 2, 3], 1.0, 1.0, 1)(torch.zeros(3, 1), logits)
        assert (scores == 0).sum(-1).tolist() == [1, 1, 1]
        assert torch.isneginf(scores).sum(-1).tolist() == [6, 6, 6]

    def test_a_row_has_its_own_stream(self) -> None:
        """Row 17 draws the same alone, and another sequence than its neighbour."""
        logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))

        def draw(seeds: list[int]) -> list[list[int]]:
            sampling = SeededSampling(seeds, 1.0, 1.0, 12)
            rows = logits.expand(len(seeds), -1)
            steps = [sampling(torch.zeros(1, 1), rows).argmax(-1).tolist() for _ in range(12)]
            return [list(row) for row in zip(*steps, strict=True)]

        alone, together = draw([17])[0], draw([3, 17, 4])
        assert together[1] == alone
        assert together[0] != alone
        assert len(set(alone)) > 3

    def test_never_draws_what_is_impossible(self) -> None:
        """A token at minus infinity has no share, even of the rounding at the very end."""
        logits = torch.tensor([[0.0, -torch.inf, 0.0]]).expand(5000, -1)
        drawn = SeededSampling(range(5000), 1.0, 1.0, 1)(torch.zeros(1, 1), logits).argmax(-1)
        assert set(drawn.tolist()) == {0, 2}

    @pytest.mark.parametrize("sharpness", [0.0, 1.0, 8.0])
    def test_the_likely_tokens_are_sorted_as_in_the_whole_vocabulary(
        self, sharpness: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rows whose nucleus they hold, rows whose nucleus is larger, and many equal ones."""
        noise = torch.randn(400, 900, generator=torch.Generator().manual_seed(0))
        logits = (sharpness * noise).bfloat16()
        sampling = SeededSampling(range(400), 0.8, 0.95, 1)
        monkeypatch.setattr(transformers_engine, "_LIKELY", 64)
        tokens = sampling.draw(logits)
        monkeypatch.setattr(transformers_engine, "_LIKELY", 900)
        assert torch.equal(tokens, SeededSampling(range(400), 0.8, 0.95, 1).draw(logits))


CONFIG = GenerationConfig(max_new_tokens=16, temperature=1.0)
EOS = [258, *range(12)]
"""The model is random: with one end token in 259 hardly a text would end."""


def _sample(
    engine: TransformersEngine, requests: Iterable[Request], config: GenerationConfig = CONFIG
) -> list[list[Text]]:
    return list(engine.sample(requests, config, [Part(config.max_new_tokens)]))


def _requests(n: int = 8) -> list[Request]:
    """Prompts of different lengths, two samples each."""
    rng = np.random.default_rng(0)
    return [
        Request(rng.integers(40, 256, size=5 + 11 * row).tolist(), [row, 1000 + row])
        for row in range(n)
    ]


@pytest.fixture(scope="module")
def engine(tiny_model_folder: Path) -> TransformersEngine:
    return TransformersEngine(tiny_model_folder, "float32", "cpu", EOS)


class TestEngine:
    def test_eight_at_once_are_eight_alone(self, engine: TransformersEngine) -> None:
        together = _sample(engine, _requests())
        alone = [_sample(engine, [request])[0] for request in _requests()]
        assert together == alone
        one_seed = [
            [_sample(engine, [Request(request.prompt_ids, [seed])])[0][0]]
            for request in _requests()
            for seed in request.seeds
        ]
        assert [text for row in together for text in row] == [text for (text,) in one_seed]

    def test_order_does_not_matter(self, engine: TransformersEngine) -> None:
        forward = _sample(engine, _requests())
        assert _sample(engine, _requests()[::-1])[::-1] == forward

    def test_stops_at_the_end_or_at_the_limit(self, engine: TransformersEngine) -> None:
        texts = [text for row in _sample(engine, _requests()) for text in row]
        ended = [text for text in texts if text.finished]
        cut = [text for text in texts if not text.finished]
        assert ended
        assert cut
        assert all(len(text.token_ids) < CONFIG.max_new_tokens for text in ended)
        assert all(len(text.token_ids) == CONFIG.max_new_tokens for text in cut)
        assert not any(token in EOS for text in texts for token in text.token_ids)

    def test_a_longer_limit_only_adds(self, engine: TransformersEngine) -> None:
        long = CONFIG.model_copy(update={"max_new_tokens": 24})
        for short, full in zip(
            _sample(engine, _requests(4)), _sample(engine, _requests(4), long), strict=True
        ):
            for a, b in zip(short, full, strict=True):
                assert b.token_ids[: len(a.token_ids)] == a.token_ids
                assert a == b or not a.finished

    def test_seeds_and_prompts_make_the_text(self, engine: TransformersEngine) -> None:
        first, second = _requests(2)
        texts = _sample(engine, [first, Request(second.prompt_ids, first.seeds)])
        assert texts[0][0] != texts[0][1]
        assert texts[0] != texts[1]

    def test_nothing_asked_nothing_given(self, engine: TransformersEngine) -> None:
        assert _sample(engine, []) == []
        assert _sample(engine, [Request([50, 51], [])]) == [[]]

    def test_settings_come_from_the_run_alone(
        self, engine: TransformersEngine, tiny_model_folder: Path, tmp_path: Path
    ) -> None:
        """Model folders bring sampling habits of their own, such as Qwen's repetition penalty."""
        folder = tmp_path / "model"
        shutil.copytree(tiny_model_folder, folder)
        habits = {"repetition_penalty": 3.0, "do_sample": True, "top_k": 1, "min_new_tokens": 9}
        (folder / "generation_config.json").write_text(json.dumps(habits), encoding="utf-8")
        other = TransformersEngine(folder, "float32", "cpu", EOS)
        assert _sample(other, _requests(4)) == _sample(engine, _requests(4))

    def test_the_first_end_ends_the_text(self) -> None:
        """What pads the row after it is nothing."""
        assert text_of([50, 60, 258, 256, 256], [258]) == Text((50, 60), True)
        assert text_of([50, 10, 60, 258], [10, 258]) == Text((50,), True)
        assert text_of([258], [258]) == Text((), True)
        assert text_of([50, 60], [258]) == Text((50, 60), False)

    def test_stops_at_other_tokens_when_told(self, engine: TransformersEngine) -> None:
        (free,) = _sample(engine, _requests(1))
        stop = free[0].token_ids[1]
        (stopped,) = engine.sample(_requests(1), CONFIG, [Part(16, stop_ids=frozenset([stop]))])
        assert stopped[0] == Text(free[0].token_ids[: free[0].token_ids.index(stop)], True)
