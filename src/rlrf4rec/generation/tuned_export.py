"""A tuned model's export, made from the export of the model that was tuned.

Tuning changes weights and nothing else, so the export changes where those weights lie. To exchange
them takes 1.5 s, to trace and convert the tuned model anew 11 s (SmolLM2-135M, two cores).
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch
from safetensors import safe_open

_STRUCTURE, _WEIGHTS = "openvino_model.xml", "openvino_model.bin"


class _Place(NamedTuple):
    """Where a constant lies in the file of weights, in bytes."""

    offset: int
    size: int


def export_tuned(base: Path, tuned: Path, base_export: Path, output: Path) -> bool:
    """Write the export of a model that differs from an exported one in weights alone.

    Args:
        base: the exported model, Hugging Face layout.
        tuned: the other model, likewise.
        base_export: the base model's export.
        output: the folder to write into.

    Returns:
        False where the export does not hold a changed weight as the model does, byte for byte: it
        cannot be exchanged there. Nothing is written then.
    """
    before, after = _files(base), _files(tuned)
    constants = _constants(base_export / _STRUCTURE)
    places = {}
    with (base_export / _WEIGHTS).open("rb") as weights:
        for name in sorted({*before, *after}):
            old, new = _bytes(before, name), _bytes(after, name)
            if old == new:
                continue
            place = constants.get(f"self.{name}")
            if place is None or not place.size == len(old) == len(new):
                return False
            weights.seek(place.offset)
            if weights.read(place.size) != old:
                return False
            places[name] = place
    shutil.copytree(base_export, output, dirs_exist_ok=True)
    with (output / _WEIGHTS).open("r+b") as weights:
        for name, place in places.items():
            weights.seek(place.offset)
            weights.write(_bytes(after, name))
    return True


def _constants(structure: Path) -> dict[str, _Place]:
    """Constants by name; equal ones that share a place are left out: one cannot change alone."""
    places = {}
    for layer in ElementTree.parse(structure).iterfind("./layers/layer[@type='Const']"):
        data = layer.find("data")
        if data is not None:
            place = _Place(int(data.attrib["offset"]), int(data.attrib["size"]))
            places[layer.attrib["name"]] = place
    uses = Counter(place.offset for place in places.values())
    return {name: place for name, place in places.items() if uses[place.offset] == 1}


def _files(folder: Path) -> dict[str, Path]:
    """The file of each weight."""
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:  # type: ignore[no-untyped-call]
            files |= dict.fromkeys(tensors.keys(), path)
    return files


def _bytes(files: dict[str, Path], name: str) -> bytes:
    """Empty where there is no such weight."""
    if name not in files:
        return b""
    with safe_open(files[name], framework="pt") as tensors:  # type: ignore[no-untyped-call]
        flat: torch.Tensor = tensors.get_tensor(name).flatten()
    return flat.view(torch.uint8).numpy().tobytes()
