"""Recorded passes must teach what plain ones do. A CPU makes a recording's work anew each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from random_models import SMALL, random_model
from safetensors.torch import load_file
from torch import Tensor

from rlrf4rec.alignment import TuningCurve, attention, recorded_passes, shared_prompt, tune
from rlrf4rec.alignment.models import load_base_model
from rlrf4rec.config import AlignmentConfig
from rlrf4rec.cuda_graphs import Work, record

CONFIG = AlignmentConfig(
    batch_size=1,
    # Gradients of several passes are added up before a step.
    gradient_accumulation=2,
    best_of_n_epochs=1,
    lora_rank=4,
    lora_alpha=8,
    learning_rate=5e-3,
)


@pytest.fixture
def many_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """Each shape comes up often; prompts stay single."""
    return pl.concat([pairs.with_columns(pl.col("prompt") + " Again." * time) for time in range(4)])


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """Passes go as on a GPU; what would be recorded."""
    works: list[Work] = []

    def keep(work: Work, device: torch.device, pool: object) -> Work:
        works.append(work)
        return work

    monkeypatch.setattr(recorded_passes, "can_record", lambda device: True)
    monkeypatch.setattr(recorded_passes, "record", keep)
    for module in (attention, shared_prompt):
        monkeypatch.setattr(module, "attends_in_batches", lambda modules: False)
    return works


def _tune(base: Path, pairs: pl.DataFrame, output: Path, **arguments: Any) -> TuningCurve:
    settings = {"config": CONFIG, "dtype": "float32", "device": "cpu", "seed": 0, **arguments}
    return tune(base, pairs, output=output, **settings)


def _weights(output: Path) -> dict[str, Tensor]:
    return load_file(output / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("epochs", [1, 2], ids=["references on the way", "before"])
@pytest.mark.parametrize("going_on", [False, True])
def test_teach_the_same(
    base_model: Path,
    many_pairs: pl.DataFrame,
    tmp_path: Path,
    recorded: list[Work],
    monkeypatch: pytest.MonkeyPatch,
    epochs: int,
    going_on: bool,
) -> None:
    arguments: dict[str, Any] = {"config": CONFIG.model_copy(update={"epochs": epochs})}
    with monkeypatch.context() as plain:
        plain.setattr(recorded_passes, "can_record", lambda device: False)
        if going_on:
            _tune(base_model, many_pairs.head(2), tmp_path / "first")
            arguments["start_adapter"] = tmp_path / "first" / "adapter"
        plain_curve = _tune(base_model, many_pairs, tmp_path / "plain", **arguments)
    assert not recorded
    recorded_curve = _tune(base_model, many_pairs, tmp_path / "recorded", **arguments)
    # Of one shape: forward and backward twice, of fine-tuning and DPO, and the reference's forward.
    assert len(recorded) == 5
    # A margin of zero is above or below it by chance.
    ours, theirs = (curve.steps.drop("accuracy") for curve in (recorded_curve, plain_curve))
    assert_frame_equal(ours, theirs, rel_tol=1e-4, abs_tol=1e-5)
    torch.testing.assert_close(
        _weights(tmp_path / "recorded"), _weights(tmp_path / "plain"), rtol=1e-3, atol=1e-4
    )


def test_a_recorded_shape_serves_batches_that_are_a_little_smaller(
    base_model: Path, recorded: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 tokens seen twice, then 18 (1.3 times 18 is above 20), then 10 seen twice."""
    monkeypatch.setattr(recorded_passes, "_ROWS", 1)
    monkeypatch.setattr(recorded_passes, "_WIDTH", 1)
    model = load_base_model(base_model, torch.float32)
    passes = recorded_passes.RecordedPasses(model)
    counts = []
    for width in (20, 20, 18, 10, 10):
        ids = torch.arange(2 * width).view(2, width)
        mask = torch.ones_like(ids)
        mask[1, width - 3 :] = 0
        with torch.no_grad():
            plain = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
            with passes.in_use():
                ours = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(ours[0, :width], plain[0])
        torch.testing.assert_close(ours[1, : width - 3], plain[1, : width - 3])
        counts.append(len(recorded))
    assert counts == [0, 1, 1, 1, 2]


def test_a_window_shorter_than_the_rows_is_kept(recorded: list[Work]) -> None:
    """Rows of a model that reads the last eight tokens only are left to the model's own mask."""
    model = random_model("mistral", **SMALL, sliding_window=8).eval()
    passes = recorded_passes.RecordedPasses(model)
    ids = torch.arange(80).view(2, 40)
    mask = torch.ones_like(ids)
    with torch.no_grad():
        plain = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        for _ in range(3):
            with passes.in_use():
                ours = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
            torch.testing.assert_close(ours, plain)
    assert not recorded


def test_what_cannot_be_recorded_is_learned_all_the_same(
    base_model: Path,
    many_pairs: pl.DataFrame,
    tmp_path: Path,
    recorded: list[Work],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(work: Work, device: torch.device, pool: object) -> Work:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(recorded_passes, "record", fail)
    curve = _tune(base_model, many_pairs, tmp_path)
    assert curve.steps["loss"].is_finite().all()
    assert "not recorded, which is slower: out of memory" in caplog.text


@pytest.mark.gpu
@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("going_on", [False, True])
def test_teach_the_same_on_a_gpu(
    base_model: Path,
    many_pairs: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epochs: int,
    going_on: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    arguments: dict[str, Any] = {"config": CONFIG.model_copy(update={"epochs": epochs})}
    if going_on:
        _tune(base_model, many_pairs.head(2), tmp_path / "first")
        arguments["start_adapter"] = tmp_path / "first" / "adapter"
    arguments["device"] = "cuda"
    with monkeypatch.context() as plain:
        plain.setattr(recorded_passes, "can_record", lambda device: False)
        plain_curve = _tune(base_model, many_pairs, tmp_path / "plain", **arguments)
    works: list[Work] = []

    def keep(work: Work, *where: Any) -> Work:
        works.append(record(work, *where))
        return works[-1]

    monkeypatch.setattr(recorded_passes, "record", keep)
    recorded_curve = _tune(base_model, many_pairs, tmp_path / "recorded", **arguments)
    assert works
    assert "not recorded" not in caplog.text
    ours, theirs = (curve.steps.drop("accuracy") for curve in (recorded_curve, plain_curve))
    assert_frame_equal(ours, theirs, rel_tol=1e-3, abs_tol=1e-4)
