"""Texts at work: which of them at once, and that they stay the same."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrf4rec.config import GenerationConfig
from rlrf4rec.errors import ConfigError
from rlrf4rec.generation import Part, Request, Text, openvino_pool
from rlrf4rec.generation.openvino_engine import OpenVINOEngine, export_openvino

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("openvino_genai", "optimum")),
    reason="needs openvino-genai and optimum-intel",
)

CONFIG = GenerationConfig(temperature=1.0)
PARTS = [Part(9), Part(5, opening=(70, 71, 72)), Part(4, opening=(80,), stop_ids=frozenset([90]))]


@pytest.fixture(scope="module")
def folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    exported = tmp_path_factory.mktemp("openvino")
    export_openvino(tiny_model_folder, exported)
    return exported


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(folder: Path, dtype: str) -> OpenVINOEngine:
    """One whose cache has not seen a prompt yet."""
    return OpenVINOEngine(folder, dtype, [258])


@pytest.fixture(scope="module")
def texts(folder: Path, dtype: str) -> list[list[Text]]:
    return _sample(OpenVINOEngine(folder, dtype, [258]), _requests())


def _sample(engine: OpenVINOEngine, requests: Sequence[Request]) -> list[list[Text]]:
    return list(engine.sample(requests, CONFIG, PARTS))


def _with_blocks(patch: pytest.MonkeyPatch, n_blocks: int) -> None:
    """A cache of so many blocks of 32 tokens."""
    import openvino_genai

    opened = openvino_genai.ContinuousBatchingPipeline

    def with_little(path: str, scheduler: Any, *others: object) -> Any:
        scheduler.cache_size, scheduler.num_kv_blocks = 0, n_blocks
        return opened(path, scheduler, *others)

    patch.setattr(openvino_genai, "ContinuousBatchingPipeline", with_little)


def _requests() -> list[Request]:
    """Eleven prompts with one beginning, longer than a block of the cache or two; up to 3 texts."""
    rng = np.random.default_rng(0)
    beginning = rng.integers(40, 256, size=40).tolist()
    return [
        Request([*beginning, *rng.integers(40, 256, size=3 + 5 * row).tolist()], range(row % 4))
        for row in range(11)
    ]


def test_every_text_in_its_place(texts: list[list[Text]]) -> None:
    """The second line's opening stands behind nine tokens, or where the LLM ended the first."""
    assert [len(of_user) for of_user in texts] == [row % 4 for row in range(11)]
    for text in (text for of_user in texts for text in of_user):
        ids = list(text.token_ids)
        assert any(ids[place : place + 3] == [70, 71, 72] for place in range(10))
        assert len(ids) <= 9 + 3 + 5 + 1 + 4


def test_two_texts_at_work_are_all_at_work(
    engine: OpenVINOEngine, texts: list[list[Text]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users with three come one after another, since a user's texts begin together."""
    monkeypatch.setattr(openvino_pool, "MAX_ROWS", 2)
    assert _sample(engine, _requests()) == texts


def test_little_room_in_the_cache_is_one_user_after_another(
    engine: OpenVINOEngine, texts: list[list[Text]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_max_tokens", 1)
    assert _sample(engine, _requests()) == texts


def test_a_full_cache_keeps_what_is_at_work(
    folder: Path, dtype: str, texts: list[list[Text]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text whose place was needed would be read again, and be another."""
    for n_blocks in (24, 36, 48):
        with monkeypatch.context() as patch:
            _with_blocks(patch, n_blocks)
            engine = OpenVINOEngine(folder, dtype, [258])
            patch.setattr(engine, "_max_tokens", 32 * n_blocks)
            assert _sample(engine, _requests()) == texts


def test_requests_are_taken_as_there_is_room(
    engine: OpenVINOEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user of one text and one of two fill three places; the one after them is at the door."""
    taken = []

    def requests() -> Iterator[Request]:
        for number, request in enumerate(_requests()[1:]):
            taken.append(number)
            yield request

    monkeypatch.setattr(openvino_pool, "MAX_ROWS", 3)
    stream = engine.sample(requests(), CONFIG, PARTS)
    assert taken == []
    assert len(next(stream)) == 1
    assert taken == [0, 1, 2]
    stream.close()


def test_what_nobody_asks_for_is_taken_back(
    engine: OpenVINOEngine, texts: list[list[Text]]
) -> None:
    """Half of the tokens end these texts, so that they end one after another."""
    ragged = [Part(30, stop_ids=frozenset(range(128)))]
    stream = engine.sample(_requests()[::-1], CONFIG, ragged)
    assert len(next(stream)) == 2
    assert engine._pipeline.has_non_finished_requests()
    stream.close()
    assert not engine._pipeline.has_non_finished_requests()
    assert _sample(engine, _requests()) == texts


def test_a_prompt_without_room_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of two blocks, 64 tokens, for a prompt of 98."""
    _with_blocks(monkeypatch, 2)
    with pytest.raises(ConfigError, match="kv_cache_gb"):
        _sample(OpenVINOEngine(folder, "float32", [258]), [Request(range(40, 138), [0])])


def test_an_end_that_only_the_pipeline_knows_ends_a_text(folder: Path) -> None:
    """The exported model brings its own end of text, 258."""
    engine = OpenVINOEngine(folder, "float32", [])
    (texts,) = engine.sample([Request(range(40, 120), range(200))], CONFIG, [Part(16)])
    assert {text.token_ids[-1] for text in texts if len(text.token_ids) < 16} == {258}
