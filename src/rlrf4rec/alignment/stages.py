"""The two trainers of a tuning, as this project runs them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.optim.optimizer import Optimizer
from torch.utils.data import Dataset, Sampler
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from rlrf4rec.alignment.batches import PromptSampler
from rlrf4rec.alignment.checkpoints import MarkComplete
from rlrf4rec.alignment.shared_prompt import AnswersOnlySFTTrainer, SharedPromptDPOTrainer
from rlrf4rec.errors import ConfigError

Phase = Literal["best_of_n", "dpo"]


@dataclass(frozen=True)
class StepReport:
    """An optimizer step that was just made.

    Attributes:
        phase: ``best_of_n`` or ``dpo``.
        step: from 1, within the phase.
        total_steps: of the phase.
        loss: the mean over the step's pairs.
    """

    phase: Phase
    step: int
    total_steps: int
    loss: float


def learning_rate_factor(step: int, total_steps: int, warmup_share: float) -> float:
    """Linear warm-up, then linear decay; neither the first nor the last step is at zero.

    Tunings here have a few dozen steps, and the usual schedule would waste one on a rate of zero.

    Args:
        step: from 0.
        total_steps: of the stage.
        warmup_share: share of the steps that warm up.

    Example:
        >>> [learning_rate_factor(step, 6, 0.34) for step in range(6)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    warmup = round(warmup_share * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup))


class _Stage(Trainer):
    """What both trainers share, mixed in before TRL's class."""

    warmup_share: float = 0.0
    prompts: Sequence[str] = ()
    """Of every pair, where some have the same one."""

    def watch(self, phase: Phase, on_step: Callable[[StepReport], None] | None) -> None:
        """Report steps, stop at a loss that is not finite, and mark checkpoints."""
        self.remove_callback(PrinterCallback)
        self.add_callback(MarkComplete())
        self.add_callback(_Watch(phase, on_step))

    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> LRScheduler:
        if self.lr_scheduler is None:
            share = self.warmup_share
            optimizer = self.optimizer if optimizer is None else optimizer
            assert optimizer is not None
            self.lr_scheduler = LambdaLR(
                optimizer,
                lambda step: learning_rate_factor(step, num_training_steps, share),
            )
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[Any] | None:
        if not self.prompts:
            return super()._get_train_sampler(train_dataset)
        return PromptSampler(self.prompts, self.args.seed)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        # Nobody reads their sum, and all weights would be counted anew in each pass.
        return 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        # TRL writes one into every checkpoint; ours are for resuming only.
        return

    def _send_telemetry(self) -> None:
        # TRL reports each run to its maintainers; a run here tells nobody.
        return


class BestOfNStage(_Stage, AnswersOnlySFTTrainer):
    """Fine-tuning on the chosen answers."""


class DPOStage(_Stage, SharedPromptDPOTrainer):
    """Direct Preference Optimization."""


class _Watch(TrainerCallback):
    def __init__(self, phase: Phase, on_step: Callable[[StepReport], None] | None) -> None:
        self.phase = phase
        self.on_step = on_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        loss = logs["loss"]
        if not math.isfinite(loss):
            raise ConfigError(
                "a finite loss",
                found=f"{loss} at step {state.global_step} of {self.phase}",
                remedy="Lower alignment.learning_rate, or set model.dtype to float32.",
            )
        if self.on_step is not None:
            self.on_step(StepReport(self.phase, state.global_step, state.max_steps, loss))
