"""From preference pairs to an adapter: optional fine-tuning on the best of N, then DPO."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.sft_config import SFTConfig

from rlrf4rec.alignment.batches import largest_part
from rlrf4rec.alignment.checkpoints import clear_if_stale, newest_checkpoint, tuning_key
from rlrf4rec.alignment.gpu_memory import (
    MicroBatch,
    gpu_room,
    pair_bytes,
    plan_micro_batch,
    release_models,
)
from rlrf4rec.alignment.models import (
    load_adapter,
    load_base_model,
    load_plain_tokenizer,
    new_adapter,
    require_adapter,
    require_model,
    save_adapter,
)
from rlrf4rec.alignment.quiet import no_progress_bars
from rlrf4rec.alignment.stages import BestOfNStage, DPOStage, Phase, StepReport
from rlrf4rec.config import AlignmentConfig
from rlrf4rec.errors import DataError
from rlrf4rec.generation.base import shared_beginning
from rlrf4rec.generation.engines import require_device

SAVE_STEPS = 5
"""Optimizer steps between checkpoints: what a kill can cost (80 pairs with the defaults)."""

PROMPTS_A_ROW = 4
"""Prompts read together on a CPU where most of them is the same: more would fill the memory with
scores of the attention (`attention.MOST_SCORES`) and gain little."""

_PAIR_COLUMNS = ("prompt", "chosen", "rejected")

_LOGGED_AS = {
    "step": "step",
    "loss": "loss",
    "margin": "rewards/margins",
    "accuracy": "rewards/accuracies",
    "chosen_reward": "rewards/chosen",
    "rejected_reward": "rewards/rejected",
    "entropy": "entropy",
    "learning_rate": "learning_rate",
}
_CURVE_SCHEMA = {"phase": pl.String, **dict.fromkeys(_LOGGED_AS, pl.Float64), "step": pl.Int32}


@dataclass(frozen=True)
class TuningCurve:
    """How a tuning went.

    Attributes:
        steps: one row an optimizer step, in order: ``phase`` (``best_of_n`` or ``dpo``), ``step``
            (from 1, within the phase), ``loss``, ``margin`` (chosen minus rejected reward),
            ``accuracy`` (share of pairs with a positive margin), ``chosen_reward``,
            ``rejected_reward``, ``entropy`` (nats a token) and ``learning_rate``. A reward is
            DPO's implicit one, β times the log-ratio of policy and reference, before the step;
            margin, accuracy and rewards are null in the phase ``best_of_n``.
    """

    steps: pl.DataFrame


def tune(
    base_model_folder: Path,
    pairs: pl.DataFrame,
    config: AlignmentConfig,
    *,
    dtype: str,
    seed: int,
    output: Path,
    start_adapter: Path | None = None,
    device: str = "auto",
    on_step: Callable[[StepReport], None] | None = None,
    checkpoint_folder: Path | None = None,
) -> TuningCurve:
    """Tune a LoRA adapter on preference pairs with DPO (arXiv 2305.18290, equation 7).

    Writes ``output/adapter/`` (PEFT format) and ``output/curve.parquet``. An adapter is always
    relative to the base model: with a `start_adapter`, tuning goes on with that adapter's weights
    (and its rank), and the reference that DPO holds on to is the policy as it was at the start.
    After fine-tuning on the best of N, the reference is the fine-tuned policy.

    The same arguments give the same adapter, whether the tuning was interrupted or not. All given
    pairs are used: `AlignmentConfig.max_pairs` is for whoever chooses them.

    Args:
        base_model_folder: a local causal language model with safetensors and tokenizer.
        pairs: ``prompt`` (chat template applied, nothing is added to it), ``chosen`` and
            ``rejected`` (how the text goes on; the end-of-text token is added).
        dtype: ``float32``, or ``bfloat16`` for the base model's weights and all products; the
            adapter's own weights are float32 in both, so that small steps are not rounded away.
        seed: of a new adapter's weights and the order of the pairs.
        output: the folder to write into.
        start_adapter: an ``adapter/`` folder of an earlier round.
        device: ``auto``, ``cpu`` or ``cuda``.
        on_step: called after each optimizer step.
        checkpoint_folder: where to leave what a killed tuning goes on from; not inside `output`.
            Whatever it holds from other arguments is removed. The caller removes it in the end.

    Raises:
        DataError: pairs are missing, or a cell is null or empty.
        MissingPartError: no model, no adapter or no CUDA device.
        ConfigError: the loss is no longer finite.
    """
    _check_pairs(pairs)
    require_model(base_model_folder)
    if start_adapter is not None:
        require_adapter(start_adapter)
    with _checkpoints_in(checkpoint_folder) as folder, no_progress_bars():
        tuning = _Tuning(
            base_model_folder=base_model_folder,
            pairs=pairs.select(_PAIR_COLUMNS),
            config=config,
            dtype=dtype,
            seed=seed,
            on_cpu=_runs_on_cpu(device),
            on_step=on_step,
            folder=folder,
            save_steps=None if checkpoint_folder is None else SAVE_STEPS,
        )
        curve = tuning.run(start_adapter, output)
        release_models()
    curve.steps.write_parquet(output / "curve.parquet")
    return curve


@dataclass(frozen=True)
class _Tuning:
    base_model_folder: Path
    pairs: pl.DataFrame
    config: AlignmentConfig
    dtype: str
    seed: int
    on_cpu: bool
    on_step: Callable[[StepReport], None] | None
    folder: Path
    save_steps: int | None

    def run(self, start_adapter: Path | None, output: Path) -> TuningCurve:
        """Both stages; what an earlier, killed run has finished is not done again."""
        clear_if_stale(self.folder, self._key(start_adapter))
        rows: list[dict[str, object]] = []
        if self.config.best_of_n_epochs > 0:
            rows += self._train(self._best_of_n_stage(start_adapter), "best_of_n")
            start_adapter = newest_checkpoint(self.folder / "best_of_n")
            release_models()
        stage = self._dpo_stage(start_adapter)
        rows += self._train(stage, "dpo")
        output.mkdir(parents=True, exist_ok=True)
        assert isinstance(stage.model, PeftModel)
        save_adapter(stage.model, output / "adapter")
        return TuningCurve(pl.DataFrame(rows, schema=_CURVE_SCHEMA))

    def _key(self, start_adapter: Path | None) -> str:
        settings = {
            **self.config.of_tuning(),
            "dtype": self.dtype,
            "seed": self.seed,
            "on_cpu": self.on_cpu,
            # A checkpoint counts micro-batches.
            "micro_batch": self._micro_batch().pairs,
        }
        return tuning_key(self.base_model_folder, self.pairs, start_adapter, settings)

    def _best_of_n_stage(self, start_adapter: Path | None) -> BestOfNStage:
        chosen = self.pairs.select("prompt", pl.col("chosen").alias("completion"))
        return BestOfNStage(
            args=SFTConfig(**self._arguments("best_of_n", self.config.best_of_n_epochs)),
            train_dataset=_dataset(chosen),
            **self._model_arguments(start_adapter),
        )

    def _dpo_stage(self, start_adapter: Path | None) -> DPOStage:
        return DPOStage(
            args=DPOConfig(
                **self._arguments("dpo", self.config.epochs),
                beta=self.config.beta,
                # In a single epoch each reference is needed once; computed on the way, none is
                # lost by a kill.
                precompute_ref_log_probs=self.config.epochs > 1,
            ),
            train_dataset=_dataset(self.pairs),
            **self._model_arguments(start_adapter),
        )

    @cached_property
    def _pairs_together(self) -> int:
        """How many pairs of one prompt are learned from in one row: they divide a step."""
        most = self.pairs["prompt"].value_counts()["count"].max()
        assert isinstance(most, int)
        return largest_part(self._pairs_a_step, 1, most) or 1

    @property
    def _pairs_a_step(self) -> int:
        return self.config.batch_size * self.config.gradient_accumulation

    def _micro_batch(self) -> MicroBatch:
        """Pairs that are read together; a full step's gradient is the mean over its pairs."""
        together = self._pairs_together
        if not self.on_cpu:
            return plan_micro_batch(
                self._pairs_a_step,
                together,
                self.config.batch_size,
                self._longest_pair_bytes,
                gpu_room(self.base_model_folder),
            )
        # On a CPU, rows of different lengths run a tenth faster one by one, without padding, unless
        # most of the prompts need to be read only once.
        most = together * (PROMPTS_A_ROW if _share_a_stem(self.pairs["prompt"]) else 1)
        pairs = largest_part(self._pairs_a_step, together, most)
        assert pairs is not None  # `together` divides a step
        return MicroBatch(pairs, checkpointing=False)

    @cached_property
    def _longest_pair_bytes(self) -> int:
        tokenizer = load_plain_tokenizer(self.base_model_folder)
        lengths = {
            name: [len(ids) for ids in tokenizer(self.pairs[name].to_list())["input_ids"]]
            for name in _PAIR_COLUMNS
        }
        answers = map(sum, zip(lengths["chosen"], lengths["rejected"], strict=True))
        return pair_bytes(self.base_model_folder, max(lengths["prompt"]), max(answers))

    def _model_arguments(self, start_adapter: Path | None) -> dict[str, Any]:
        """Keyword arguments of a TRL trainer, hence `Any`."""
        model = load_base_model(self.base_model_folder, getattr(torch, self.dtype))
        tokenizer: PreTrainedTokenizerBase = load_plain_tokenizer(self.base_model_folder)
        if start_adapter is None:
            # TRL attaches it, and takes the model without it as the reference.
            return {
                "model": model,
                "processing_class": tokenizer,
                "peft_config": new_adapter(self.config),
            }
        # TRL keeps a frozen copy of it as the reference.
        adapted = load_adapter(model, start_adapter, trainable=True)
        return {"model": adapted, "processing_class": tokenizer}

    def _arguments(self, phase: Phase, epochs: int) -> dict[str, Any]:
        """Keyword arguments of a TRL configuration, hence `Any`."""
        micro_batch = self._micro_batch()
        return {
            "output_dir": str(self.folder / phase),
            "num_train_epochs": epochs,
            "per_device_train_batch_size": micro_batch.pairs,
            "gradient_accumulation_steps": self._pairs_a_step // micro_batch.pairs,
            "learning_rate": self.config.learning_rate,
            "max_length": None,
            "bf16": self.dtype == "bfloat16",
            "use_cpu": self.on_cpu,
            "gradient_checkpointing": micro_batch.checkpointing,
            "dataloader_pin_memory": not self.on_cpu,
            "seed": self.seed,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "save_strategy": "steps",
            # The last step is always saved. Two are kept, so that one is complete at any time.
            "save_steps": 10**9 if self.save_steps is None else self.save_steps,
            "save_total_limit": 2,
            "report_to": "none",
            "disable_tqdm": True,
        }

    def _train(self, stage: BestOfNStage | DPOStage, phase: Phase) -> list[dict[str, object]]:
        stage.warmup_share = self.config.warmup_share
        stage.prompts = self.pairs["prompt"].to_list() if self._pairs_together > 1 else ()
        stage.watch(phase, self.on_step)
        checkpoint = newest_checkpoint(self.folder / phase)
        stage.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        return [
            {"phase": phase, **{name: entry.get(key) for name, key in _LOGGED_AS.items()}}
            for entry in stage.state.log_history
            if "loss" in entry
        ]


def _share_a_stem(prompts: pl.Series) -> bool:
    """Whether all prompts begin alike, for at least a quarter of their mean length."""
    length = prompts.str.len_chars().mean()
    assert isinstance(length, float)
    # What the first and the last in alphabetical order begin with, all between them begin with.
    first, last = str(prompts.min()), str(prompts.max())
    return shared_beginning(first, last) >= length / 4


def _check_pairs(pairs: pl.DataFrame) -> None:
    missing = [name for name in _PAIR_COLUMNS if pairs.schema.get(name) != pl.String]
    if missing:
        raise DataError(
            "pairs with the text columns 'prompt', 'chosen' and 'rejected'",
            found=f"columns {pairs.columns}; {missing} missing or not text",
            remedy="Rename or cast the columns.",
        )
    if pairs.is_empty():
        raise DataError(
            "at least one preference pair",
            found="none",
            remedy="Lower reward.margin, or use more users or samples.",
        )
    for name in _PAIR_COLUMNS:
        empty = pairs.select((pl.col(name).is_null() | (pl.col(name) == "")).arg_true()).to_series()
        if len(empty):
            raise DataError(
                "text in every cell of the pairs",
                found=f"row {empty[0]}, column {name!r}: {pairs[name][empty[0]]!r}",
                remedy="Leave out pairs without a prompt or an answer.",
            )


def _dataset(frame: pl.DataFrame) -> datasets.Dataset:
    # Held in memory, so that what TRL derives from it (the reference's log-probabilities, too)
    # goes to a folder that ends with the process, never to a cache that could be stale.
    return datasets.Dataset.from_dict(frame.to_dict(as_series=False))


def _runs_on_cpu(device: str) -> bool:
    require_device(device)
    return device == "cpu" or not torch.cuda.is_available()


@contextmanager
def _checkpoints_in(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="rlrf4rec-tuning-") as temporary:
        yield Path(temporary)
