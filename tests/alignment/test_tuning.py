"""A whole tuning: what it learns, what it writes, and that a kill changes nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlrf4rec.alignment import StepReport, TuningCurve, merge_adapter, tune
from rlrf4rec.alignment.models import load_adapter, load_base_model, load_plain_tokenizer
from rlrf4rec.alignment.packing import PackedBatch
from rlrf4rec.alignment.stages import learning_rate_factor
from rlrf4rec.config import AlignmentConfig
from rlrf4rec.errors import ConfigError, DataError, MissingPartError

START = "<|start|>"
CONFIG = AlignmentConfig(
    epochs=2, batch_size=1, gradient_accumulation=1, lora_rank=4, lora_alpha=8, learning_rate=2e-3
)
"""Ten steps on five pairs; the checkpoint is at step 5."""


class Killed(Exception):
    pass


def _tune(base: Path, pairs: pl.DataFrame, output: Path, **arguments: Any) -> TuningCurve:
    settings = {"config": CONFIG, "dtype": "float32", "seed": 0, "device": "cpu", **arguments}
    config = settings.pop("config")
    return tune(base, pairs, config, output=output, **settings)


def _weights(output: Path) -> dict[str, Tensor]:
    return load_file(output / "adapter" / "adapter_model.safetensors")


def _log_probs(model: Any, base: Path, pairs: pl.DataFrame, answer: str) -> list[float]:
    """Log-probability of each answer and the end token, one row at a time, no trainer."""
    tokenizer = load_plain_tokenizer(base)
    sums = []
    for row in pairs.iter_rows(named=True):
        start = len(tokenizer(row["prompt"])["input_ids"])
        text = row["prompt"] + row[answer] + tokenizer.eos_token
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            scores = model(ids).logits[0, :-1].log_softmax(-1)
        sums.append(scores.gather(1, ids[0, 1:, None])[start - 1 :].sum().item())
    return sums


def _margins(policy: Any, reference: Any, base: Path, pairs: pl.DataFrame) -> list[float]:
    """DPO's margin by its formula: beta * (policy - reference), chosen minus rejected."""
    chosen, ref_chosen, rejected, ref_rejected = (
        _log_probs(model, base, pairs, answer)
        for answer in ("chosen", "rejected")
        for model in (policy, reference)
    )
    return [
        CONFIG.beta * ((c - rc) - (r - rr))
        for c, rc, r, rr in zip(chosen, ref_chosen, rejected, ref_rejected, strict=True)
    ]


def test_tuned_model_prefers_the_chosen_answers(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    reports: list[StepReport] = []
    curve = _tune(base_model, pairs, tmp_path, on_step=reports.append)

    assert [(r.phase, r.step, r.total_steps) for r in reports] == [
        ("dpo", step, 10) for step in range(1, 11)
    ]
    assert curve.steps["loss"][0] == pytest.approx(math.log(2), abs=1e-6)
    assert curve.steps["margin"][0] == 0.0
    assert curve.steps["loss"].to_list() == [report.loss for report in reports]
    assert curve.steps.null_count().sum_horizontal().item() == 0
    assert pl.read_parquet(tmp_path / "curve.parquet").equals(curve.steps)

    # PEFT loads what was written, and the margins are there without any trainer.
    tuned = load_adapter(load_base_model(base_model, torch.float32), tmp_path / "adapter")
    reference = load_base_model(base_model, torch.float32)
    assert min(_margins(tuned, reference, base_model, pairs)) > 0
    assert all(weight.dtype == torch.float32 for weight in _weights(tmp_path).values())


def test_one_step_holds_many_pairs(base_model: Path, pairs: pl.DataFrame, tmp_path: Path) -> None:
    """Five pairs in steps of four: the second step holds one, whatever lies in memory at once."""
    weights = []
    for name, batch_size in (("a", 1), ("b", 2)):
        config = CONFIG.model_copy(
            update={"epochs": 1, "batch_size": batch_size, "gradient_accumulation": 4 // batch_size}
        )
        curve = _tune(base_model, pairs, tmp_path / name, config=config)
        assert curve.steps.height == 2
        weights.append(_weights(tmp_path / name))
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_prompts_read_together_teach_the_same(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four prompts that begin alike, in one flat row or in four rows: the same two tunings.

    But for the logged entropy, TRL's mean over micro-batches of means over their tokens.
    """
    settings = {"epochs": 1, "batch_size": 4, "best_of_n_epochs": 1}
    arguments: dict[str, Any] = {"config": CONFIG.model_copy(update=settings)}
    alike = pairs.head(4).with_columns(prompt=f"{START}What you wrote. " + pl.col("prompt"))
    curves = []
    for prompts_a_row in (4, 1):
        monkeypatch.setattr("rlrf4rec.alignment.tuning.PROMPTS_A_ROW", prompts_a_row)
        curves.append(_tune(base_model, alike, tmp_path / str(prompts_a_row), **arguments).steps)
    assert_frame_equal(*(curve.drop("entropy") for curve in curves), abs_tol=1e-5)
    together, apart = (_weights(tmp_path / name) for name in ("4", "1"))
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("stem", "pairs_read_together"),
    [("A long beginning of all prompts. ", 4), ("A", 1)],
)
def test_only_prompts_that_mostly_agree_are_read_together(
    base_model: Path,
    pairs: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stem: str,
    pairs_read_together: int,
) -> None:
    batches = []
    of_pairs = PackedBatch.of_pairs

    def watched(*batch: Tensor) -> PackedBatch:
        batches.append(len(batch[0]) // 2)
        return of_pairs(*batch)

    monkeypatch.setattr(PackedBatch, "of_pairs", watched)
    config = CONFIG.model_copy(update={"epochs": 1, "batch_size": 2, "gradient_accumulation": 2})
    other = pl.Series("prompt", ["Jaws is fine.", "Up!", "Ran, again.", "Brazil is art."])
    _tune(base_model, pairs.head(4).with_columns(prompt=stem + other), tmp_path, config=config)
    assert set(batches) == {pairs_read_together}


@pytest.mark.parametrize(
    ("epochs", "best_of_n_epochs", "second_round", "one_prompt", "killed_after"),
    [
        (1, 0, False, False, 3),  # references computed on the way
        (2, 0, False, False, 6),  # references computed before, second epoch
        (2, 0, True, False, 3),  # a second adapter as the reference
        (1, 1, False, False, 3),  # in the first stage
        (1, 1, True, False, 8),  # in the second stage
        (3, 0, False, True, 5),  # several pairs of one prompt, in another order each epoch
        (1, 3, False, True, 5),  # and their chosen answers in the first stage
    ],
)
def test_resume_equals_no_break(
    base_model: Path,
    pairs: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epochs: int,
    best_of_n_epochs: int,
    second_round: bool,
    one_prompt: bool,
    killed_after: int,
) -> None:
    monkeypatch.setattr("rlrf4rec.alignment.tuning.SAVE_STEPS", 2)
    settings = {"epochs": epochs, "best_of_n_epochs": best_of_n_epochs}
    if one_prompt:
        pairs = pairs.with_columns(prompt=pairs["prompt"][[0, 1, 1, 3, 0]])
        settings["batch_size"] = 2
    arguments: dict[str, Any] = {"config": CONFIG.model_copy(update=settings)}
    if second_round:
        _tune(base_model, pairs, tmp_path / "first", seed=1)
        arguments["start_adapter"] = tmp_path / "first" / "adapter"
    whole = _tune(base_model, pairs, tmp_path / "whole", **arguments)

    reports: list[StepReport] = []

    def kill(report: StepReport) -> None:
        reports.append(report)
        if len(reports) == killed_after + 1:
            raise Killed

    arguments["checkpoint_folder"] = tmp_path / "checkpoints"
    with pytest.raises(Killed):
        _tune(base_model, pairs, tmp_path / "resumed", on_step=kill, **arguments)
    assert not (tmp_path / "resumed").exists()
    cut_short = tmp_path / "checkpoints" / reports[-1].phase / "checkpoint-99"
    cut_short.mkdir()
    (cut_short / "adapter_model.safetensors").write_bytes(b"half")

    again: list[StepReport] = []
    resumed = _tune(base_model, pairs, tmp_path / "resumed", on_step=again.append, **arguments)
    assert len(again) < whole.steps.height  # it did go on, not start over
    assert not cut_short.exists()
    assert resumed.steps.equals(whole.steps)
    torch.testing.assert_close(
        _weights(tmp_path / "resumed"), _weights(tmp_path / "whole"), rtol=0, atol=0
    )


def test_checkpoints_of_other_arguments_are_not_used(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    _tune(base_model, pairs, tmp_path / "a", checkpoint_folder=folder)
    swapped = pairs.rename({"chosen": "rejected", "rejected": "chosen"})
    reports: list[StepReport] = []
    _tune(base_model, swapped, tmp_path / "b", checkpoint_folder=folder, on_step=reports.append)
    assert len(reports) == 10
    _tune(base_model, swapped, tmp_path / "c")
    torch.testing.assert_close(_weights(tmp_path / "b"), _weights(tmp_path / "c"))

    finished: list[StepReport] = []
    _tune(base_model, swapped, tmp_path / "d", checkpoint_folder=folder, on_step=finished.append)
    assert not finished
    torch.testing.assert_close(_weights(tmp_path / "d"), _weights(tmp_path / "b"))


def test_second_round_goes_on_from_the_first(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    """The reference is the round-1 policy: ln 2 at the start, although the weights are not new."""
    _tune(base_model, pairs, tmp_path / "first")
    curve = _tune(
        base_model, pairs, tmp_path / "second", start_adapter=tmp_path / "first" / "adapter"
    )
    assert curve.steps["loss"][0] == pytest.approx(math.log(2), abs=1e-6)

    base, first, second = (
        load_base_model(base_model, torch.float32),
        *(
            load_adapter(load_base_model(base_model, torch.float32), tmp_path / name / "adapter")
            for name in ("first", "second")
        ),
    )
    # Relative to the base model, the second adapter holds both rounds.
    after_first = _margins(first, base, base_model, pairs)
    after_second = _margins(second, base, base_model, pairs)
    assert all(b > a > 0 for a, b in zip(after_first, after_second, strict=True))
    assert sorted(path.name for path in (tmp_path / "second" / "adapter").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_best_of_n_comes_first(base_model: Path, pairs: pl.DataFrame, tmp_path: Path) -> None:
    """Its loss at the start is the mean negative log-likelihood of an answer's token."""
    config = CONFIG.model_copy(
        update={"best_of_n_epochs": 3, "batch_size": 5, "gradient_accumulation": 1}
    )
    curve = _tune(base_model, pairs, tmp_path, config=config).steps
    assert curve["phase"].to_list() == ["best_of_n"] * 3 + ["dpo"] * 2

    base = load_base_model(base_model, torch.float32)
    tokens = sum(len(chosen) + 1 for chosen in pairs["chosen"])
    expected = -sum(_log_probs(base, base_model, pairs, "chosen")) / tokens
    assert curve["loss"][0] == pytest.approx(expected, rel=1e-5)
    assert curve["loss"][2] < curve["loss"][0]
    assert curve["loss"][3] == pytest.approx(math.log(2), abs=1e-6)
    assert curve["margin"].is_null().to_list() == [True] * 3 + [False] * 2


def test_bfloat16_tunes_in_float32_weights(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    curve = _tune(base_model, pairs, tmp_path, dtype="bfloat16").steps
    assert curve["loss"][0] == pytest.approx(math.log(2), abs=1e-6)
    assert sum(curve["margin"][-5:]) > 0
    assert all(weight.dtype == torch.float32 for weight in _weights(tmp_path).values())


def test_merged_model_is_base_and_adapter(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    _tune(base_model, pairs, tmp_path)
    merge_adapter(base_model, tmp_path / "adapter", tmp_path / "merged")
    merge_adapter(base_model, None, tmp_path / "copy")
    merge_adapter(base_model, None, tmp_path / "copy")  # over an older one

    merged, copy = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("merged", "copy")
    )
    base = load_base_model(base_model, torch.float32)
    ids = torch.tensor([[256, 40, 41, 42]])
    torch.testing.assert_close(copy(ids).logits, base(ids).logits, rtol=0, atol=0)
    difference = (merged(ids).logits - base(ids).logits).abs().max()
    assert difference > 0.01
    adapted = load_adapter(base, tmp_path / "adapter")
    torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-4)

    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "merged" / name).read_bytes() == (base_model / name).read_bytes()
    AutoTokenizer.from_pretrained(tmp_path / "merged")


def test_prompt_gets_no_second_start_token(base_model: Path) -> None:
    assert len(AutoTokenizer.from_pretrained(base_model)("<|start|>A")["input_ids"]) == 3
    assert len(load_plain_tokenizer(base_model)("<|start|>A")["input_ids"]) == 2


def test_learning_rate_rises_then_falls() -> None:
    """Two of six steps warm up; four steps fall from 1 in quarters."""
    factors = [learning_rate_factor(step, 6, 0.34) for step in range(6)]
    assert factors == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert learning_rate_factor(0, 1, 0.1) == 1.0
    # After the last step the scheduler asks once more.
    assert [learning_rate_factor(step, 2, 0.9) for step in range(3)] == [0.5, 1.0, 0.0]


def test_curve_follows_the_schedule(base_model: Path, pairs: pl.DataFrame, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"warmup_share": 0.2, "learning_rate": 0.1})
    curve = _tune(base_model, pairs, tmp_path, config=config).steps
    expected = [0.1 * learning_rate_factor(step, 10, 0.2) for step in range(10)]
    assert curve["learning_rate"].to_list() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (pl.lit(None, pl.String).alias("chosen"), "row 0, column 'chosen': None"),
        (pl.lit("").alias("prompt"), "row 0, column 'prompt': ''"),
        (pl.lit(1).alias("rejected"), r"\['rejected'\] missing or not text"),
    ],
)
def test_bad_pairs_are_named(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path, change: pl.Expr, found: str
) -> None:
    with pytest.raises(DataError, match=found):
        _tune(base_model, pairs.with_columns(change), tmp_path)


def test_nothing_to_tune_on(base_model: Path, pairs: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one preference pair"):
        _tune(base_model, pairs.clear(), tmp_path)


def test_missing_parts_are_named(base_model: Path, pairs: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="model folder"):
        _tune(tmp_path / "nowhere", pairs, tmp_path / "out")
    with pytest.raises(MissingPartError, match="adapter folder"):
        _tune(base_model, pairs, tmp_path / "out", start_adapter=tmp_path / "nowhere")
    with pytest.raises(MissingPartError, match="adapter folder"):
        merge_adapter(base_model, tmp_path / "nowhere", tmp_path / "out")


def test_a_loss_that_is_not_finite_stops(
    base_model: Path, pairs: pl.DataFrame, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(ConfigError, match=r"alignment\.learning_rate"):
        _tune(base_model, pairs, tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()
