"""Where a row computes, and in what type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlrf4rec.config import MachineConfig
from speed.work import machine_dtype

Name = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Device:
    """A processor or a GPU.

    Attributes:
        name: as torch names it.
        dtype: of weights and products, ours and the peer's.
        machine: chooses the product's engine.
    """

    name: Name
    dtype: Literal["float32", "bfloat16"]
    machine: MachineConfig

    @classmethod
    def processor(cls) -> Device:
        """What the rows of `bench.py` compute on."""
        return cls("cpu", machine_dtype(), MachineConfig())

    @classmethod
    def gpu(cls, name: Name = "cuda") -> Device:
        """The GPU; ``cpu`` runs its rows without one, to try them."""
        machine = MachineConfig(device=name, engine="transformers")
        return cls(name, "bfloat16" if name == "cuda" else machine_dtype(), machine)
