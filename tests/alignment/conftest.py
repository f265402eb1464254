"""A tiny random Llama with a byte-level tokenizer, made on the spot."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

START, END = "<|start|>", "<|end|>"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; the tokenizer puts a start token in front of plain text, as Llama's does."""
    folder = tmp_path_factory.mktemp("base") / "tiny-llama"
    alphabet = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([START, END])
    start_id = tokenizer.token_to_id(START)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, start_id)]
    )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=START, eos_token=END
    )
    fast.chat_template = "{{ messages[0]['content'] }}"
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        # A random model with small weights predicts nearly the same everywhere, and a mask that
        # hides too little would go unnoticed.
        initializer_range=0.3,
        bos_token_id=start_id,
        eos_token_id=fast.eos_token_id,
    )
    model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pairs() -> pl.DataFrame:
    """Prompts and answers of different lengths."""
    return pl.DataFrame(
        {
            "prompt": [
                f"{START}I saw Heat.",
                f"{START}Up and Jaws are fine.",
                f"{START}Alien!",
                f"{START}Brazil, Ran.",
                f"{START}Big.",
            ],
            "chosen": [" Crime", " Adventure, with heart", " Space and fear", " Art", " Comedy"],
            "rejected": [" La la la la", " No", " Romance", " All of it, all", " Horror films"],
        }
    )
