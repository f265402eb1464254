"""An export with other weights is the export of the model that has them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("openvino", reason="needs rlrf4rec[openvino]")

from rlrf4rec.generation.openvino_engine import export_openvino
from rlrf4rec.generation.tuned_export import export_tuned

WEIGHTS = "model.safetensors"
Change = Callable[[str, torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def export(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "base"
    export_openvino(tiny_model_folder, folder)
    return folder


def _changed(base: Path, folder: Path, change: Change) -> Path:
    shutil.copytree(base, folder)
    weights = {name: change(name, weight) for name, weight in load_file(base / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def _bytes(folder: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    # OpenVINO goes on counting models and operations through a process's life.
    structure = re.sub(rb'(name="[A-Za-z]+_?)\d+"', rb'\1"', files["openvino_model.xml"])
    return files | {"openvino_model.xml": structure}


def _projections(name: str, weight: torch.Tensor) -> torch.Tensor:
    return weight * 1.5 + 0.01 if "_proj" in name else weight


def test_it_is_that_of_the_tuned_model_byte_for_byte(
    tiny_model_folder: Path, export: Path, tmp_path: Path
) -> None:
    tuned = _changed(tiny_model_folder, tmp_path / "tuned", _projections)
    before = _bytes(export)
    assert export_tuned(tiny_model_folder, tuned, export, tmp_path / "export")
    export_openvino(tuned, tmp_path / "anew")
    assert _bytes(tmp_path / "export") == _bytes(tmp_path / "anew")
    assert _bytes(export) == before != _bytes(tmp_path / "anew")


def test_nothing_changed_is_a_copy(tiny_model_folder: Path, export: Path, tmp_path: Path) -> None:
    assert export_tuned(tiny_model_folder, tiny_model_folder, export, tmp_path / "export")
    assert _bytes(tmp_path / "export") == _bytes(export)


@pytest.mark.parametrize(
    "change",
    [
        # Another shape, another type, and norms: all ones, which the export keeps once.
        lambda name, weight: weight[:-1].clone() if "q_proj" in name else weight,
        lambda name, weight: weight.bfloat16() if "q_proj" in name else weight,
        lambda name, weight: weight * 2 if "layers.0.input_layernorm" in name else weight,
    ],
)
def test_what_cannot_be_exchanged_writes_nothing(
    change: Change, tiny_model_folder: Path, export: Path, tmp_path: Path
) -> None:
    tuned = _changed(tiny_model_folder, tmp_path / "tuned", change)
    assert not export_tuned(tiny_model_folder, tuned, export, tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_an_export_of_other_weights_is_not_used(
    tiny_model_folder: Path, export: Path, tmp_path: Path
) -> None:
    base = _changed(tiny_model_folder, tmp_path / "base", lambda name, weight: weight + 1)
    tuned = _changed(base, tmp_path / "tuned", _projections)
    assert not export_tuned(base, tuned, export, tmp_path / "export")
