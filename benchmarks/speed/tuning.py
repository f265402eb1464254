"""DPO on pairs that share their prompt, against TRL's trainer as it comes."""

from __future__ import annotations

import statistics
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import polars as pl
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from rlrf4rec.alignment import tune
from rlrf4rec.alignment.models import new_adapter
from rlrf4rec.config import AlignmentConfig
from speed.measure import Row
from speed.work import ROOT, machine_dtype, model_folder, prompts

PROMPT_TOKENS, ANSWER_TOKENS = 500, 64
ROUNDS, STEPS, PAIRS_A_STEP = 3, 3, 4
TOLERANCE = 1e-3
_TEXTS = ROOT / "benchmarks/results/ml-100k/round-0/base/samples/samples.parquet"
_CONFIG = AlignmentConfig(
    batch_size=PAIRS_A_STEP, gradient_accumulation=1, warmup_share=0.0, learning_rate=2e-4
)


def vs_trl() -> Row:
    """Pairs a second, the reference's log-probabilities included, in what the machine computes in.

    Both train the same adapter on the same pairs in the same order; the first step, which warms up,
    is not counted. In float32 their losses are the same to `TOLERANCE`.
    """
    gap = _largest_gap()
    ratios, ours, theirs = [], [], []
    for number in range(ROUNDS):
        pairs = _pairs(20 * number, STEPS * PAIRS_A_STEP)
        ours.append(_tune_ours(pairs, machine_dtype())[1])
        theirs.append(_tune_theirs(pairs, machine_dtype())[1])
        ratios.append(ours[-1] / theirs[-1])
    return Row(
        "dpo_vs_trl",
        ratios,
        target=8.0,
        details={
            "seconds_a_pair": 1 / statistics.median(ours),
            "peer_seconds_a_pair": 1 / statistics.median(theirs),
            "largest_loss_difference_float32": gap,
        },
    )


def _largest_gap() -> float:
    pairs = _pairs(100, 2 * PAIRS_A_STEP)
    ours, theirs = (_tune_ours(pairs, "float32")[0], _tune_theirs(pairs, "float32")[0])
    gap = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    if gap > TOLERANCE:
        raise RuntimeError(f"losses differ by {gap}: {ours} and {theirs}")
    return gap


def _pairs(first_pair: int, count: int) -> pl.DataFrame:
    """Real prompts that fill a budget of 500 tokens, each with two texts of the untuned LLM, of
    64 tokens.
    """
    return _all_pairs().slice(first_pair, count)


@cache
def _all_pairs() -> pl.DataFrame:
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    full = [
        prompt
        for prompt in prompts(PROMPT_TOKENS)
        if len(_ids(tokenizer, prompt)) > 0.95 * PROMPT_TOKENS
    ]
    answers = _answers(tokenizer)
    count = min(len(full), len(answers) // 2)
    return pl.DataFrame(
        {
            "prompt": full[:count],
            "chosen": answers[0 : 2 * count : 2],
            "rejected": answers[1 : 2 * count : 2],
        }
    )


def _answers(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Texts one after another, cut into pieces of 64 tokens."""
    texts = pl.read_parquet(_TEXTS)["text"].head(1000)
    ids = _ids(tokenizer, "\n".join(texts))
    return [
        str(tokenizer.decode(ids[start : start + ANSWER_TOKENS]))
        for start in range(0, len(ids) - ANSWER_TOKENS, ANSWER_TOKENS)
    ]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _tune_ours(pairs: pl.DataFrame, dtype: str) -> tuple[list[float], float]:
    """Losses of the steps, and pairs a second."""
    ends: list[float] = []
    losses: list[float] = []

    def on_step(report: Any) -> None:
        ends.append(time.perf_counter())
        losses.append(report.loss)

    with TemporaryDirectory() as folder:
        tune(
            model_folder(),
            pairs,
            _CONFIG,
            dtype=dtype,
            seed=0,
            output=Path(folder),
            device="cpu",
            on_step=on_step,
        )
    return losses, _rate(ends)


def _tune_theirs(pairs: pl.DataFrame, dtype: str) -> tuple[list[float], float]:
    """Likewise: TRL's trainer with its own settings but for those that say what is learned."""
    watch = _Watch()
    with TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(model_folder(), dtype=getattr(torch, dtype)),
            args=DPOConfig(
                output_dir=folder,
                per_device_train_batch_size=PAIRS_A_STEP,
                gradient_accumulation_steps=1,
                num_train_epochs=1,
                learning_rate=_CONFIG.learning_rate,
                beta=_CONFIG.beta,
                bf16=dtype == "bfloat16",
                use_cpu=True,
                max_length=None,
                seed=0,
                logging_steps=1,
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset.from_dict(pairs.to_dict(as_series=False)),
            processing_class=AutoTokenizer.from_pretrained(model_folder()),
            peft_config=new_adapter(_CONFIG),
            callbacks=[watch],
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses, _rate(watch.ends)


class _Watch(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        self.ends.append(time.perf_counter())


def _rate(ends: list[float]) -> float:
    """Pairs a second of the steps after the first one."""
    return PAIRS_A_STEP * (len(ends) - 1) / (ends[-1] - ends[0])
