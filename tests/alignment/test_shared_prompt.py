"""The fast trainer must be TRL's trainer in every number."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from random_models import SMALL, random_model
from transformers import PreTrainedModel
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from rlrf4rec.alignment import attention, shared_prompt
from rlrf4rec.alignment.models import load_base_model, load_plain_tokenizer
from rlrf4rec.alignment.packing import PackedBatch
from rlrf4rec.alignment.shared_prompt import AnswersOnlySFTTrainer, SharedPromptDPOTrainer
from rlrf4rec.generation.packable import find_obstacle
from rlrf4rec.say_once import say_once

COMMON: dict[str, Any] = {
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "per_device_train_batch_size": 3,
}


def _trainer(
    cls: type[DPOTrainer],
    model: PreTrainedModel,
    base: Path,
    pairs: pl.DataFrame,
    output: Path,
    **settings: Any,
) -> Any:
    """A trainer whose adapter already does something: its second factor is not zero.

    `Any`, since TRL leaves the types of a trainer's parts open.
    """
    targets = settings.pop("targets", "all-linear")
    trainer: Any = cls(
        model=model,
        args=DPOConfig(str(output), max_length=None, **COMMON, **settings),
        train_dataset=Dataset.from_dict(pairs.to_dict(as_series=False)),
        processing_class=load_plain_tokenizer(base),
        peft_config=LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"),
    )
    return _with_a_working_adapter(trainer)


def _with_a_working_adapter(trainer: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return trainer


def _step(trainer: Any, n_pairs: int = 3) -> dict[str, Any]:
    """Loss, logged metrics and gradients of one batch."""
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(n_pairs)])
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return {
        "loss": loss.detach(),
        "metrics": {k: torch.tensor(v) for k, v in trainer._metrics["train"].items()},
        "gradients": {
            name: parameter.grad
            for name, parameter in trainer.model.named_parameters()
            if parameter.grad is not None
        },
    }


def _forget(trainer: Any) -> None:
    """What a step leaves behind."""
    trainer.model.zero_grad()
    trainer._metrics["train"].clear()


def _assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Equal to 1e-5; gradients to 1e-5 of the largest one, which differs between losses."""
    largest = max(gradient.abs().max() for gradient in theirs["gradients"].values())
    assert largest > 0
    for step in (ours, theirs):
        step["gradients"] = {name: grad / largest for name, grad in step["gradients"].items()}
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_type": "sigmoid"},
        {"loss_type": "ipo"},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        {"loss_type": "sigmoid", "use_weighting": True},
        {"loss_type": "sigmoid", "ld_alpha": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("precompute", [False, True])
def test_loss_metrics_and_gradients_are_trls(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path, settings: Any, precompute: bool
) -> None:
    steps = [
        _step(
            _trainer(
                cls,
                load_base_model(base_model, torch.float32),
                base_model,
                pairs,
                tmp_path,
                precompute_ref_log_probs=precompute,
                **settings,
            )
        )
        for cls in (SharedPromptDPOTrainer, DPOTrainer)
    ]
    _assert_equal(*steps)


@pytest.mark.parametrize(
    ("kind", "settings", "targets"),
    [
        ("gemma3_text", {**SMALL, "sliding_window": 64}, "all-linear"),
        ("mistral", {**SMALL, "sliding_window": 64}, "all-linear"),
        ("qwen3", SMALL, "all-linear"),
        ("gpt2", {"vocab_size": 258, "n_embd": 32, "n_layer": 2, "n_head": 4}, ["c_attn"]),
    ],
)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_other_models_are_packed_too(
    kind: str,
    settings: dict[str, Any],
    targets: Any,
    implementation: str,
    base_model: Path,
    pairs: pl.DataFrame,
    tmp_path: Path,
) -> None:
    steps = []
    for cls in (SharedPromptDPOTrainer, DPOTrainer):
        model = random_model(kind, implementation, **settings)
        assert find_obstacle(model, 32) is None
        steps.append(_step(_trainer(cls, model, base_model, pairs, tmp_path, targets=targets)))
    _assert_equal(*steps)


def test_several_pairs_of_one_prompt_are_trls_too(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    """Three pairs, two of them with one prompt: two packed rows; in the flat one they share it.

    Nothing is padded there: 1 token that all begin with, 11 and 6 more of the prompts, and answers
    with their ends of 7, 13, 23, 4, 16 and 9.
    """
    shared = pairs.with_columns(prompt=pairs["prompt"][[0, 0, 2, 3, 4]])
    steps = []
    for cls in (SharedPromptDPOTrainer, DPOTrainer):
        model = load_base_model(base_model, torch.float32)
        read = _rows_read(model)
        steps.append(_step(_trainer(cls, model, base_model, shared, tmp_path)))
        assert read == [(1, 90) if cls is SharedPromptDPOTrainer else (6, 35)] * 2
    _assert_equal(*steps)


STEM = "I like films that "
"""Eighteen tokens, one each character, and the start before."""


def _with_a_stem(pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.with_columns(prompt=pairs["prompt"].str.replace("I saw|Up|Alien", STEM))


def test_a_reference_reads_what_all_prompts_begin_with_once(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    """Two steps: the policy reads the stem of 19 tokens in both, the reference in the first."""
    pairs = _with_a_stem(pairs)
    steps, first = [], []
    for cls in (SharedPromptDPOTrainer, DPOTrainer):
        model = load_base_model(base_model, torch.float32)
        trainer = _trainer(cls, model, base_model, pairs, tmp_path)
        read = _rows_read(model)
        first.append(_step(trainer))
        _forget(trainer)
        # The policy moves; the reference does not.
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data.mul_(1.5)
        steps.append(_step(trainer))
        if cls is SharedPromptDPOTrainer:
            policy, reference, policy_again, reference_again = (width for _, width in read)
            assert policy == reference == policy_again == reference_again + 19
    _assert_equal(*first)
    _assert_equal(*steps)


def test_a_batch_is_packed_once(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the policy and the reference; the next batch is another one."""
    packed = []

    def of_pairs(*batch: torch.Tensor) -> PackedBatch:
        packed.append(batch[0])
        return own(*batch)

    own = PackedBatch.of_pairs
    monkeypatch.setattr(PackedBatch, "of_pairs", of_pairs)
    model = load_base_model(base_model, torch.float32)
    trainer = _trainer(SharedPromptDPOTrainer, model, base_model, pairs, tmp_path)
    for n_pairs in (3, 2):
        _step(trainer, n_pairs)
    assert [len(rows) for rows in packed] == [6, 4]


def test_a_policy_is_evaluated_by_itself(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    """Without gradients it runs, too, but what it makes of a stem is not the reference's."""
    pairs = _with_a_stem(pairs)
    losses = []
    for cls in (SharedPromptDPOTrainer, DPOTrainer):
        model = load_base_model(base_model, torch.float32)
        trainer = _trainer(cls, model, base_model, pairs, tmp_path)
        _step(trainer)
        trainer.model.eval()
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(3)])
        with torch.no_grad():
            losses.append(trainer.compute_loss(trainer.model, batch))
    assert losses[0] != pytest.approx(math.log(2), abs=1e-3)
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)


def test_padded_rows_are_trls_too(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where flat rows cannot be run: on a GPU, and with too many scores."""
    monkeypatch.setattr(attention, "MOST_SCORES", 0)
    steps = []
    for cls in (SharedPromptDPOTrainer, DPOTrainer):
        model = load_base_model(base_model, torch.float32)
        read = _rows_read(model)
        steps.append(_step(_trainer(cls, model, base_model, pairs, tmp_path)))
        assert [rows for rows, _ in read] == [3 if cls is SharedPromptDPOTrainer else 6] * 2
    _assert_equal(*steps)


@pytest.mark.parametrize(
    ("n_rows", "prompts"),
    [
        pytest.param(1, None, id="one row"),
        pytest.param(3, None, id="three prompts that begin alike"),
        pytest.param(2, [0, 0, 2], id="two answers of one prompt"),
        pytest.param(3, [0, 0, 2], id="two answers of one prompt, and another's"),
    ],
)
def test_fine_tuning_is_trls(
    base_model: Path,
    pairs: pl.DataFrame,
    tmp_path: Path,
    n_rows: int,
    prompts: list[int] | None,
) -> None:
    """Loss, metrics and gradients; all is read in one row."""
    if prompts is not None:
        pairs = pairs.head(3).with_columns(prompt=pairs["prompt"][prompts])
    steps = []
    for cls in (AnswersOnlySFTTrainer, SFTTrainer):
        model = load_base_model(base_model, torch.float32)
        read = _rows_read(model)
        trainer = _fine_tuner(cls, model, base_model, pairs, tmp_path)
        steps.append(_step(trainer, n_rows))
        if cls is AnswersOnlySFTTrainer:
            assert [rows for rows, _ in read] == [1]
    _assert_equal(*steps)


def _fine_tuner(
    cls: type[SFTTrainer], model: PreTrainedModel, base: Path, pairs: pl.DataFrame, output: Path
) -> Any:
    """See `_trainer`."""
    trainer: Any = cls(
        model=model,
        args=SFTConfig(str(output), max_length=None, **COMMON),
        train_dataset=Dataset.from_dict(
            {"prompt": pairs["prompt"].to_list(), "completion": pairs["chosen"].to_list()}
        ),
        processing_class=load_plain_tokenizer(base),
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    return _with_a_working_adapter(trainer)


def test_reference_log_probs_are_trls(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    references = []
    for cls in (SharedPromptDPOTrainer, DPOTrainer):
        model = load_base_model(base_model, torch.float32)
        trainer = _trainer(cls, model, base_model, pairs, tmp_path, precompute_ref_log_probs=True)
        columns = trainer.train_dataset.with_format("torch")
        references.append([columns["ref_chosen_logps"][:], columns["ref_rejected_logps"][:]])
    assert references[0][0].shape == (5,)
    torch.testing.assert_close(references[0], references[1], rtol=1e-5, atol=1e-5)


def test_loss_at_the_start_is_ln_2(base_model: Path, pairs: pl.DataFrame, tmp_path: Path) -> None:
    """Policy and reference agree: -log sigmoid(beta * 0) = ln 2 = 0.6931, all margins 0."""
    model = load_base_model(base_model, torch.float32)
    trainer = _trainer(SharedPromptDPOTrainer, model, base_model, pairs, tmp_path)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    step = _step(trainer)
    assert step["loss"].item() == pytest.approx(math.log(2), abs=1e-7)
    assert step["metrics"]["rewards/margins"].item() == 0.0


def test_backbone_reads_each_prompt_once(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    """One pair: 12 prompt tokens, answers of 7 and 13 with their ends, so 32 instead of 2 * 25."""
    model = load_base_model(base_model, torch.float32)
    trainer = _trainer(SharedPromptDPOTrainer, model, base_model, pairs, tmp_path)
    read = _rows_read(model)
    _step(trainer, n_pairs=1)
    assert read == [(1, 32), (1, 32)]  # policy, reference


def _rows_read(model: PreTrainedModel) -> list[tuple[int, ...]]:
    """Shapes of what the backbone reads from now on."""
    read: list[tuple[int, ...]] = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, args, output: read.append(tuple(args[0].shape))
    )
    return read


def test_other_models_and_batches_fall_back(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A sliding window that is shorter than the rows cannot be packed; TRL's numbers stay."""
    say_once.cache_clear()
    caplog.set_level(logging.WARNING, logger=shared_prompt.__name__)
    steps = []
    for cls in (SharedPromptDPOTrainer, DPOTrainer):
        model = random_model("mistral", **SMALL, sliding_window=8)
        trainer = _trainer(cls, model, base_model, pairs, tmp_path)
        _step(trainer)
        _forget(trainer)
        steps.append(_step(trainer))
    _assert_equal(*steps)
    # Twice two forwards of the policy and the reference, one message.
    assert [record.message for record in caplog.records if "sliding_window 8" in record.message]
    assert len(caplog.records) == 1


def test_prompts_cut_at_the_start_fall_back(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Keeping the rows' ends cuts the prompts of a pair at different places."""
    say_once.cache_clear()
    caplog.set_level(logging.WARNING, logger=shared_prompt.__name__)
    steps = []
    for cls in (SharedPromptDPOTrainer, DPOTrainer):
        model = load_base_model(base_model, torch.float32)
        trainer = _trainer(cls, model, base_model, pairs, tmp_path)
        trainer.data_collator.max_length = 16
        trainer.data_collator.truncation_mode = "keep_end"
        steps.append(_step(trainer))
    _assert_equal(*steps)
    assert any("same prompt" in record.message for record in caplog.records)


def test_obstacles_are_named() -> None:
    mamba = random_model(
        "mamba", "eager", vocab_size=16, hidden_size=8, state_size=4, num_hidden_layers=1
    )
    assert "layers other than attention" in str(find_obstacle(mamba, 8))
    llama = random_model("llama", **SMALL)
    llama.config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in str(find_obstacle(llama, 8))


def test_forward_is_trls_own_again_afterwards(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    model = load_base_model(base_model, torch.float32)
    trainer = _trainer(SharedPromptDPOTrainer, model, base_model, pairs, tmp_path)
    own = model.forward
    _step(trainer)
    assert model.forward == own
    assert not model.base_model._forward_hooks
