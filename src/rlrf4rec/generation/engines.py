"""Which engine samples here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from rlrf4rec.config import MachineConfig, ModelConfig
from rlrf4rec.errors import MissingPartError
from rlrf4rec.generation.base import Engine
from rlrf4rec.say_once import say_once

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rlrf4rec.generation.likelihood import LikelihoodScorer

_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""As `torch.cpu.get_capabilities` names them, on x86 and on ARM."""

_SLOW_BFLOAT16 = (
    "This device has no bfloat16 instructions: tuning in model.dtype bfloat16 is several times "
    "slower than in float32. With auto the device's own type is used."
)

_CONVERTED_ANEW = (
    "OpenVINO's export of this LLM does not hold the weights as the LLM's files do: each tuned one "
    "is converted as a whole, which takes longer."
)


def choose_engine(machine: MachineConfig) -> Literal["openvino", "transformers"]:
    """The engine that `auto` stands for: transformers on a GPU, else OpenVINO where installed."""
    if machine.engine != "auto":
        return machine.engine
    if choose_device(machine) == "cuda" or importlib.util.find_spec("openvino_genai") is None:
        return "transformers"
    return "openvino"


def choose_device(machine: MachineConfig) -> Literal["cpu", "cuda"]:
    """The device that `auto` stands for."""
    if machine.device != "auto":
        return machine.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_dtype(model: ModelConfig, machine: MachineConfig) -> Literal["float32", "bfloat16"]:
    """The type that `auto` stands for: bfloat16 where the device computes in it, else float32.

    A processor without such instructions takes six times as long for bfloat16 as for float32 (AVX2,
    two cores, products of SmolLM2-135M's shapes); who asks for it nevertheless is told.
    """
    device = choose_device(machine)
    if model.dtype == "auto":
        return "bfloat16" if _computes_bfloat16(device) else "float32"
    if model.dtype == "bfloat16" and not _computes_bfloat16(device):
        say_once(_SLOW_BFLOAT16)
    return model.dtype


def _computes_bfloat16(device: Literal["cpu", "cuda"]) -> bool:
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older versions of torch cannot tell; float32 is never slow by a factor.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in _BFLOAT16_INSTRUCTIONS)


def require_device(device: str) -> None:
    """Name a missing GPU before anything is loaded for it.

    Raises:
        MissingPartError: ``cuda`` is asked for and there is none.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise MissingPartError(
            "a CUDA device", found="none", remedy="Set machine.device to cpu or auto."
        )


def available_device(machine: MachineConfig) -> Literal["cpu", "cuda"]:
    """The GPU unless it is not wanted or not there: for work that any device does alike.

    A run that was made on a GPU can so be evaluated without one.
    """
    return "cpu" if machine.device == "cpu" else choose_device(MachineConfig())


@contextmanager
def open_engine(
    model_folder: Path, machine: MachineConfig, dtype: str, *, tuned_from: Path | None = None
) -> Iterator[Engine]:
    """Load the model at ``model_folder`` into the machine's engine.

    Args:
        model_folder: Hugging Face layout.
        machine: names the engine and the device.
        dtype: ``float32`` or ``bfloat16``.
        tuned_from: the model that differs from this one in its weights alone. OpenVINO's export of
            that one is kept in the cache, the one of this is dropped after use; None: this one's is
            kept.
    """
    eos = end_of_text_ids(model_folder)
    if choose_engine(machine) == "transformers":
        from rlrf4rec.generation.transformers_engine import TransformersEngine

        yield TransformersEngine(
            model_folder, dtype, choose_device(machine), eos, machine.sampling_batch
        )
        return
    from rlrf4rec.generation.openvino_engine import OpenVINOEngine

    kept = _kept_export(tuned_from or model_folder)
    if tuned_from is None:
        yield OpenVINOEngine(kept, dtype, eos, machine.kv_cache_gb)
        return
    with TemporaryDirectory(prefix="rlrf4rec-export-") as temporary:
        _export_tuned(tuned_from, model_folder, kept, Path(temporary))
        yield OpenVINOEngine(Path(temporary), dtype, eos, machine.kv_cache_gb)


def _kept_export(model_folder: Path) -> Path:
    from rlrf4rec.generation.openvino_engine import export_openvino
    from rlrf4rec.openvino_export import cached_export

    return cached_export(model_folder, lambda output: export_openvino(model_folder, output))


def _export_tuned(base: Path, tuned: Path, base_export: Path, output: Path) -> None:
    from rlrf4rec.generation.openvino_engine import export_openvino
    from rlrf4rec.generation.tuned_export import export_tuned

    if not export_tuned(base, tuned, base_export, output):
        say_once(_CONVERTED_ANEW)
        export_openvino(tuned, output)


def open_scorer(model_folder: Path, machine: MachineConfig, dtype: str) -> LikelihoodScorer:
    """Load the model at ``model_folder`` to score given answers; always with transformers.

    Args:
        model_folder: Hugging Face layout.
        machine: names the device.
        dtype: ``float32`` or ``bfloat16``.
    """
    from rlrf4rec.generation.likelihood import LikelihoodScorer

    return LikelihoodScorer(model_folder, dtype, available_device(machine))


def end_of_text_ids(model_folder: Path) -> list[int]:
    """The tokens that end an answer: the generation config's and the tokenizer's."""
    from transformers import AutoTokenizer, GenerationConfig

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_folder)
    ids = {tokenizer.eos_token_id}
    try:
        configured = GenerationConfig.from_pretrained(model_folder).eos_token_id
    except OSError:
        configured = None
    ids.update([configured] if isinstance(configured, int) else configured or [])
    return sorted(token for token in ids if token is not None)
