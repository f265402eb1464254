"""Which engine samples, where its export is kept, and OpenVINO's engine itself."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rlrf4rec.config import GenerationConfig, MachineConfig, ModelConfig
from rlrf4rec.errors import MissingPartError
from rlrf4rec.generation import Engine, Part, Request, Text, choose_engine, open_engine
from rlrf4rec.generation.engines import (
    available_device,
    choose_device,
    choose_dtype,
    end_of_text_ids,
)
from rlrf4rec.generation.transformers_engine import TransformersEngine
from rlrf4rec.say_once import say_once

CONFIG = GenerationConfig(max_new_tokens=16, temperature=1.0)
CPU = MachineConfig(device="cpu")
OPENVINO = MachineConfig(device="cpu", engine="openvino")

needs_openvino = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("openvino_genai", "optimum")),
    reason="needs openvino-genai and optimum-intel",
)


def _sample(
    engine: Engine, requests: Iterable[Request], config: GenerationConfig = CONFIG
) -> list[list[Text]]:
    return list(engine.sample(requests, config, [Part(config.max_new_tokens)]))


def _requests() -> list[Request]:
    """Eight prompts with one beginning, as those of a run have, and two samples each."""
    rng = np.random.default_rng(0)
    beginning = rng.integers(40, 256, size=70).tolist()
    return [
        Request([*beginning, *rng.integers(40, 256, size=3 + 11 * row).tolist()], [row, 1000 + row])
        for row in range(8)
    ]


class TestChoice:
    def test_what_is_named_is_taken(self) -> None:
        assert choose_engine(MachineConfig(engine="transformers")) == "transformers"
        assert choose_engine(MachineConfig(engine="openvino", device="cuda")) == "openvino"
        assert choose_device(MachineConfig(device="cuda")) == "cuda"

    def test_auto_on_a_cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        installed = importlib.util.find_spec("openvino_genai") is not None
        assert choose_engine(CPU) == ("openvino" if installed else "transformers")
        monkeypatch.setitem(sys.modules, "openvino_genai", None)
        assert choose_engine(CPU) == "transformers"

    def test_auto_on_a_gpu(self) -> None:
        assert choose_engine(MachineConfig(device="cuda")) == "transformers"

    def test_auto_device_is_what_torch_sees(self) -> None:
        expected = "cuda" if torch.cuda.is_available() else "cpu"
        assert choose_device(MachineConfig()) == expected

    def test_where_any_device_will_do_an_absent_gpu_is_no_obstacle(self) -> None:
        expected = "cuda" if torch.cuda.is_available() else "cpu"
        for device in ("auto", "cuda"):
            assert available_device(MachineConfig(device=device)) == expected
        assert available_device(CPU) == "cpu"

    @pytest.mark.parametrize(
        ("instructions", "expected"),
        [
            ({"avx2": True, "avx512_bf16": False}, "float32"),
            ({"avx512_bf16": True}, "bfloat16"),
            ({"amx_bf16": True}, "bfloat16"),
            ({"architecture": "aarch64", "bf16": True}, "bfloat16"),
        ],
    )
    def test_auto_dtype_is_what_the_processor_computes_in(
        self, monkeypatch: pytest.MonkeyPatch, instructions: dict[str, object], expected: str
    ) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
        assert choose_dtype(ModelConfig(), CPU) == expected
        for dtype in ("float32", "bfloat16"):
            assert choose_dtype(ModelConfig(dtype=dtype), CPU) == dtype

    def test_a_torch_that_cannot_tell_computes_in_float32(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        assert choose_dtype(ModelConfig(), CPU) == "float32"

    def test_slow_bfloat16_is_done_and_said_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
        say_once.cache_clear()
        for _ in range(2):
            assert choose_dtype(ModelConfig(dtype="bfloat16"), CPU) == "bfloat16"
        assert caplog.text.count("no bfloat16 instructions") == 1

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
    def test_an_absent_gpu_is_named(self, tiny_model_folder: Path) -> None:
        machine = MachineConfig(device="cuda", engine="transformers")
        with (
            pytest.raises(MissingPartError, match="CUDA"),
            open_engine(tiny_model_folder, machine, "float32"),
        ):
            pass


def test_end_of_text_is_what_tokenizer_and_generation_config_name(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    """Llama 3 names several ends, in its generation config only. 258 is <|im_end|>."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    assert end_of_text_ids(folder) == [258]
    for configured, expected in ((256, [256, 258]), ([256, 7], [7, 256, 258]), (None, [258])):
        text = json.dumps({"eos_token_id": configured})
        (folder / "generation_config.json").write_text(text, encoding="utf-8")
        assert end_of_text_ids(folder) == expected
    (folder / "generation_config.json").unlink()
    assert end_of_text_ids(folder) == [258]


def test_opening_transformers(tiny_model_folder: Path) -> None:
    machine = MachineConfig(device="cpu", engine="transformers")
    with open_engine(tiny_model_folder, machine, "float32") as engine:
        assert isinstance(engine, TransformersEngine)
        assert len(_sample(engine, _requests()[:1])[0]) == 2


def test_missing_package_says_what_to_install(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLRF4REC_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "optimum.intel", None)
    with (
        pytest.raises(MissingPartError, match=r"pip install .*openvino"),
        open_engine(tiny_model_folder, OPENVINO, "float32"),
    ):
        pass
    assert list((tmp_path / "openvino").iterdir()) == []


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLRF4REC_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def other_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with other attention weights, as tuning leaves it."""
    folder = tmp_path_factory.mktemp("models") / "tuned"
    shutil.copytree(tiny_model_folder, folder)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name, weight in weights.items():
        if "self_attn" in name:
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(tiny_model_folder: Path, cache: Path, dtype: str) -> Iterator[Engine]:
    with open_engine(tiny_model_folder, OPENVINO, dtype) as engine:
        yield engine


@needs_openvino
class TestOpenVINO:
    def test_eight_at_once_are_eight_alone(self, engine: Engine) -> None:
        together = _sample(engine, _requests())
        assert [_sample(engine, [one])[0] for one in _requests()] == together
        assert _sample(engine, _requests()[::-1])[::-1] == together
        single = [
            _sample(engine, [Request(one.prompt_ids, [seed])])[0][0]
            for one in _requests()
            for seed in one.seeds
        ]
        assert single == [text for texts in together for text in texts]

    def test_a_cold_prefix_cache_gives_the_same(
        self, engine: Engine, tiny_model_folder: Path, dtype: str
    ) -> None:
        """As after a kill: this process never read the other prompts."""
        warm = _sample(engine, _requests())
        with open_engine(tiny_model_folder, OPENVINO, dtype) as cold:
            assert _sample(cold, _requests()[5:]) == warm[5:]

    def test_seeds_and_prompts_make_the_text(self, engine: Engine) -> None:
        first, second = _requests()[:2]
        texts = _sample(engine, [first, Request(second.prompt_ids, first.seeds)])
        assert texts[0][0] != texts[0][1]
        assert texts[0] != texts[1]

    def test_stops_at_the_end_or_at_the_limit(self, engine: Engine) -> None:
        """The random model seldom ends a text, but some of two hundred end."""
        prompt = _requests()[0].prompt_ids
        (texts,) = _sample(engine, [Request(prompt, range(200))])
        ended = [text for text in texts if text.finished]
        cut = [text for text in texts if not text.finished]
        assert ended
        assert cut
        assert all(len(text.token_ids) < CONFIG.max_new_tokens for text in ended)
        assert all(len(text.token_ids) == CONFIG.max_new_tokens for text in cut)
        assert not any(258 in text.token_ids for text in texts)

    def test_draws_from_the_distribution_that_transformers_draws_from(
        self, engine: Engine, tiny_model_folder: Path
    ) -> None:
        """Other random numbers, the same shares: 400 first tokens of each engine.

        Half the sum of absolute differences; two samples of this size from one distribution over
        a few dozen likely tokens differ by about 0.15, engines that read the prompt or the
        temperature differently by 0.5 and more.
        """
        prompt = _requests()[3].prompt_ids
        config = GenerationConfig(max_new_tokens=8, temperature=0.7, top_p=0.9)
        reference = TransformersEngine(tiny_model_folder, "float32", "cpu", [258])
        shares = []
        for one in (reference, engine):
            (texts,) = _sample(one, [Request(prompt, range(400))], config)
            first = [text.token_ids[0] if text.token_ids else 258 for text in texts]
            shares.append(np.bincount(first, minlength=259) / len(first))
        assert np.abs(shares[0] - shares[1]).sum() / 2 < 0.25

    def test_nothing_asked_nothing_given(self, engine: Engine) -> None:
        assert _sample(engine, []) == []
        assert _sample(engine, [Request([50, 51], [])]) == [[]]


@needs_openvino
class TestExport:
    def test_of_a_base_model_is_kept(self, tiny_model_folder: Path, cache: Path) -> None:
        def exports() -> dict[Path, int]:
            return {path: path.stat().st_mtime_ns for path in cache.rglob("openvino_model.xml")}

        for _ in range(2):
            with open_engine(tiny_model_folder, OPENVINO, "float32"):
                kept = exports()
        assert len(kept) == 1
        assert exports() == kept
        assert not list((cache / "openvino").glob(".*"))

    def test_reports_to_nobody(self, engine: Engine) -> None:
        """Left alone, OpenVINO's converter sends what it converts to its maker."""
        assert "openvino.tools.ovc" in sys.modules
        assert sys.modules["openvino_telemetry"] is None

    def test_of_a_tuned_model_is_dropped(
        self,
        tiny_model_folder: Path,
        other_model_folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        monkeypatch.setenv("RLRF4REC_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        texts = {}
        for tuned_from in (tiny_model_folder, None):
            with open_engine(
                other_model_folder, OPENVINO, "float32", tuned_from=tuned_from
            ) as engine:
                exports = list(temporary.glob("rlrf4rec-export-*/openvino_model.xml"))
                assert len(exports) == (tuned_from is not None)
                texts[tuned_from] = _sample(engine, _requests())
            assert not list(temporary.glob("rlrf4rec-export-*"))
            kept = list((tmp_path / "cache").rglob("openvino_model.xml"))
            assert len(kept) == (1 if tuned_from else 2)
        # By the base model's export with other weights, and by an export of its own.
        assert texts[tiny_model_folder] == texts[None]
        with open_engine(tiny_model_folder, OPENVINO, "float32") as engine:
            assert _sample(engine, _requests()) != texts[None]

    def test_that_cannot_take_the_weights_is_made_anew(
        self,
        tiny_model_folder: Path,
        other_model_folder: Path,
        cache: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def refuse(*folders: Path) -> bool:
            return False

        say_once.cache_clear()
        with open_engine(
            other_model_folder, OPENVINO, "float32", tuned_from=tiny_model_folder
        ) as engine:
            expected = _sample(engine, _requests())
        # The exporter may have its own to say.
        assert "converted as a whole" not in caplog.text
        monkeypatch.setattr("rlrf4rec.generation.tuned_export.export_tuned", refuse)
        with open_engine(
            other_model_folder, OPENVINO, "float32", tuned_from=tiny_model_folder
        ) as engine:
            assert _sample(engine, _requests()) == expected
        assert caplog.text.count("converted as a whole") == 1
