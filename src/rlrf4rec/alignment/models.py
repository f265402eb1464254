"""Loading what is tuned, and writing what was tuned as a plain model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from tokenizers.processors import ByteLevel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from rlrf4rec.alignment.quiet import no_progress_bars
from rlrf4rec.config import AlignmentConfig
from rlrf4rec.errors import MissingPartError
from rlrf4rec.workspace import write_json

_WRITTEN_BY_MODEL = {"config.json", "generation_config.json", "model.safetensors.index.json"}
_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5"}


def require_model(folder: Path) -> None:
    """Stop with a `MissingPartError` if there is no model in the folder."""
    if not (folder / "config.json").is_file():
        raise MissingPartError(
            "a model folder with config.json and safetensors",
            found=str(folder),
            remedy="Check model.name; packaged models are converted on first use.",
        )


def require_adapter(folder: Path) -> None:
    """Stop with a `MissingPartError` if there is no adapter in the folder."""
    if not (folder / "adapter_model.safetensors").is_file():
        raise MissingPartError(
            "a PEFT adapter folder with adapter_model.safetensors",
            found=str(folder),
            remedy="Pass the 'adapter' folder that a tuning wrote.",
        )


def load_base_model(folder: Path, dtype: torch.dtype | None) -> PreTrainedModel:
    """The causal language model in `folder`.

    Args:
        folder: a model folder with safetensors, as `save_pretrained` writes it.
        dtype: of the weights; None keeps the stored one.

    Raises:
        MissingPartError: there is no model in the folder.
    """
    require_model(folder)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype="auto" if dtype is None else dtype,
        use_safetensors=True,
        local_files_only=True,
    )
    return model


def load_plain_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, made to add no special tokens of its own.

    A prompt comes with its chat template's special tokens. TRL tokenizes plain text with special
    tokens added, so a Llama tokenizer would put a second beginning-of-text token in front.

    Raises:
        MissingPartError: the tokenizer adds special tokens and cannot be kept from it.
    """
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, local_files_only=True
    )
    if _adds_special_tokens(tokenizer) and isinstance(tokenizer, PreTrainedTokenizerFast):
        # The post-processor is what adds them; this one changes no token.
        tokenizer.backend_tokenizer.post_processor = ByteLevel(trim_offsets=False)
    if _adds_special_tokens(tokenizer):
        raise MissingPartError(
            "a tokenizer that can leave out special tokens",
            found=f"{type(tokenizer).__name__} in {folder}",
            remedy="Use a model that ships a tokenizer.json.",
        )
    return tokenizer


def new_adapter(config: AlignmentConfig) -> LoraConfig:
    """LoRA on all linear layers but the language-model head; it changes nothing until trained."""
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def load_adapter(model: PreTrainedModel, folder: Path, *, trainable: bool = False) -> PeftModel:
    """`model` with the adapter in `folder`; trainable weights are float32.

    Raises:
        MissingPartError: there is no adapter in the folder.
    """
    require_adapter(folder)
    adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    assert isinstance(adapted, PeftModel)
    return adapted


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the trained adapter in PEFT's format, aside and then renamed."""
    with _written_aside(folder) as aside:
        model.save_pretrained(
            str(aside),
            # TRL keeps a copy named "ref" beside it.
            selected_adapters=["default"],
            save_embedding_layers=False,
        )
        settings = aside / "adapter_config.json"
        config = json.loads(settings.read_text(encoding="utf-8"))
        if isinstance(config["target_modules"], list):
            # PEFT writes a set, in another order each time: the same tuning, the same files.
            config["target_modules"].sort()
            write_json(settings, config)


def merge_adapter(base_model_folder: Path, adapter_folder: Path | None, output: Path) -> None:
    """Write base model and adapter as one plain model folder, for engines that take no adapters.

    The weights keep the base model's stored type, so a model stored in bfloat16 is merged with
    bfloat16's rounding. Everything beside the weights (tokenizer, chat template) is copied as it
    lies.

    Args:
        base_model_folder: the model that was tuned.
        adapter_folder: a PEFT folder; None writes the base model alone.
        output: the folder to write; one that exists is replaced.

    Raises:
        MissingPartError: there is no model or no adapter in its folder.
    """
    require_model(base_model_folder)
    if adapter_folder is not None:
        require_adapter(adapter_folder)
    with _written_aside(output) as aside:
        with no_progress_bars():
            model = load_base_model(base_model_folder, dtype=None)
            if adapter_folder is not None:
                merged = load_adapter(model, adapter_folder).merge_and_unload()
                assert isinstance(merged, PreTrainedModel)
                model = merged
            model.save_pretrained(aside)
        for file in base_model_folder.iterdir():
            if (
                file.is_file()
                and file.name not in _WRITTEN_BY_MODEL
                and file.suffix not in _WEIGHT_SUFFIXES
            ):
                shutil.copy2(file, aside / file.name)


def _adds_special_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    with_special = tokenizer("a")["input_ids"]
    return bool(with_special != tokenizer("a", add_special_tokens=False)["input_ids"])


@contextmanager
def _written_aside(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder`` once it is filled, or is removed."""
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
