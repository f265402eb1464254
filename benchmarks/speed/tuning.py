"""DPO on pairs that share their prompt, against TRL's trainer as it comes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

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

from rlrf4rec.alignment import StepReport, tune
from rlrf4rec.alignment.models import new_adapter
from rlrf4rec.config import AlignmentConfig
from speed.device import Device
from speed.measure import Row, finish
from speed.work import ROOT, model_folder, prompts

PROMPT_TOKENS, ANSWER_TOKENS = 500, 64
ROUNDS, STEPS, PAIRS_A_STEP = 3, 3, 4
TOLERANCE = 1e-3
_TEXTS = ROOT / "benchmarks/results/ml-100k/round-0/base/samples/samples.parquet"


@dataclass(frozen=True)
class Tuning:
    """How much is learned from, and where.

    Attributes:
        device: ours and the peer's.
        pairs_a_step: of an optimizer step.
        steps: of a round, with those that warm up.
        warm_up: steps that are not counted.
        rounds: each on other pairs.
        last_tokens: of the experiment's prompts are read; None: prompts within a budget of 500.
    """

    device: Device
    pairs_a_step: int = PAIRS_A_STEP
    steps: int = STEPS
    warm_up: int = 1
    rounds: int = ROUNDS
    last_tokens: int | None = None

    @property
    def config(self) -> AlignmentConfig:
        """Of our tuning; the peer takes what it says of learning from it."""
        return AlignmentConfig(
            batch_size=self.pairs_a_step,
            gradient_accumulation=1,
            warmup_share=0.0,
            learning_rate=2e-4,
        )

    def pairs(self, number: int) -> pl.DataFrame:
        """Of a round: real prompts, each with two texts of the untuned LLM, of 64 tokens."""
        first, count = (self.steps + 2) * number * self.pairs_a_step, self.steps * self.pairs_a_step
        pairs = _all_pairs(self.last_tokens).slice(first, count)
        if len(pairs) < count:
            raise RuntimeError(f"{len(pairs)} pairs from pair {first} on, not {count}")
        return pairs

    def rate(self, ends: list[float]) -> float:
        """Pairs a second of the steps that count, from the times at which steps ended."""
        counted = ends[self.warm_up - 1 :]
        return self.pairs_a_step * (len(counted) - 1) / (counted[-1] - counted[0])


def vs_trl(tuning: Tuning | None = None) -> Row:
    """Pairs a second, the reference's log-probabilities included, in what the machine computes in.

    As it comes, TRL's trainer checkpoints gradients: it computes a layer's activations again in the
    backward pass. Ours does so only on a GPU that is short of memory, so what the peer does without
    is measured beside.

    Both train the same adapter on the same pairs in the same order; the first step, which warms up,
    is not counted. In float32 their losses are the same to `TOLERANCE`.
    """
    tuning = tuning or Tuning(Device.processor())
    gap = _largest_gap(tuning)
    ratios, ours, theirs, unchecked = [], [], [], []
    for number in range(tuning.rounds):
        pairs = tuning.pairs(number)
        ours.append(tune_ours(pairs, tuning)[1])
        theirs.append(_tune_theirs(pairs, tuning)[1])
        unchecked.append(_tune_theirs(pairs, tuning, checkpointing=False)[1])
        ratios.append(ours[-1] / theirs[-1])
    return Row(
        "dpo_vs_trl",
        ratios,
        target=8.0,
        details={
            "seconds_a_pair": 1 / statistics.median(ours),
            "peer_seconds_a_pair": 1 / statistics.median(theirs),
            "ratio_without_the_peer_s_checkpointing": statistics.median(
                mine / peer for mine, peer in zip(ours, unchecked, strict=True)
            ),
            "largest_loss_difference_float32": gap,
        },
    )


def _largest_gap(tuning: Tuning) -> float:
    exact = replace(tuning, device=replace(tuning.device, dtype="float32"), steps=2, warm_up=1)
    pairs = _all_pairs(tuning.last_tokens).slice(100, 2 * tuning.pairs_a_step)
    ours, theirs = (tune_ours(pairs, exact)[0], _tune_theirs(pairs, exact)[0])
    gap = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    if gap > TOLERANCE:
        raise RuntimeError(f"losses differ by {gap}: {ours} and {theirs}")
    return gap


@cache
def _all_pairs(last_tokens: int | None) -> pl.DataFrame:
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    if last_tokens is None:
        full = [
            prompt
            for prompt in prompts(PROMPT_TOKENS)
            if len(_ids(tokenizer, prompt)) > 0.95 * PROMPT_TOKENS
        ]
    else:
        # Whatever the template's length; and prompts are written once for all rows.
        full = [
            str(tokenizer.decode(ids[-last_tokens:]))
            for ids in (_ids(tokenizer, prompt) for prompt in prompts())
            if len(ids) >= last_tokens
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


def tokens_read(pairs: pl.DataFrame) -> tuple[int, int]:
    """Tokens of all pairs, each prompt once, and of their answers, with the end of each."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    answers = [*pairs["chosen"], *pairs["rejected"]]
    n_answer = sum(len(_ids(tokenizer, answer)) + 1 for answer in answers)
    return n_answer + sum(len(_ids(tokenizer, prompt)) for prompt in pairs["prompt"]), n_answer


def tune_ours(pairs: pl.DataFrame, tuning: Tuning) -> tuple[list[float], float]:
    """Losses of the steps, and pairs a second."""
    ends: list[float] = []
    losses: list[float] = []

    def on_step(report: StepReport) -> None:
        ends.append(time.perf_counter())
        losses.append(report.loss)

    make_steps(pairs, tuning, on_step)
    return losses, tuning.rate(ends)


def make_steps(pairs: pl.DataFrame, tuning: Tuning, on_step: Callable[[StepReport], None]) -> None:
    """Our tuning; ``on_step`` is called when all of a step's work is done."""

    def when_done(report: StepReport) -> None:
        finish(tuning.device.name)
        on_step(report)

    with TemporaryDirectory() as folder:
        tune(
            model_folder(),
            pairs,
            tuning.config,
            dtype=tuning.device.dtype,
            seed=0,
            output=Path(folder),
            device=tuning.device.name,
            on_step=when_done,
        )


def _tune_theirs(
    pairs: pl.DataFrame, tuning: Tuning, *, checkpointing: bool = True
) -> tuple[list[float], float]:
    """Likewise: TRL's trainer with its own settings but for those that say what is learned.

    To checkpoint is its own setting, too.
    """
    watch, dtype, config = _Watch(tuning.device.name), tuning.device.dtype, tuning.config
    with TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(model_folder(), dtype=getattr(torch, dtype)),
            args=DPOConfig(
                output_dir=folder,
                per_device_train_batch_size=tuning.pairs_a_step,
                gradient_accumulation_steps=1,
                num_train_epochs=1,
                learning_rate=config.learning_rate,
                beta=config.beta,
                bf16=dtype == "bfloat16",
                use_cpu=tuning.device.name == "cpu",
                max_length=None,
                gradient_checkpointing=checkpointing,
                seed=0,
                logging_steps=1,
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset.from_dict(pairs.to_dict(as_series=False)),
            processing_class=AutoTokenizer.from_pretrained(model_folder()),
            peft_config=new_adapter(config),
            callbacks=[watch],
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses, tuning.rate(watch.ends)


class _Watch(TrainerCallback):
    def __init__(self, device: str) -> None:
        self.device = device
        self.ends: list[float] = []

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        finish(self.device)
        self.ends.append(time.perf_counter())
