"""Speed on one GPU: python benchmarks/gpu_bench.py [--device cuda|cpu] [--quick] [ROW …]

As `bench.py`, in two minutes on an H200: sampling and DPO with large batches in bfloat16, against
transformers and TRL and against what the GPU could do. Each row is printed and stored as soon as it
is measured; one that fails is printed and stored as its error, and the next goes on. On a CPU,
and with --quick, it only tries the rows.

Scoring has no row: the product's recommenders score on the CPU, which `bench.py` measures.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

# Before torch and transformers are imported. With several GPUs in sight, a trainer would split its
# batches; and what is not there is not looked for in a network.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

import bench
from speed import gpu_limits, sampling, tuning
from speed.device import Device
from speed.measure import Row, put
from speed.sampling import Writing
from speed.tuning import Tuning

RESULTS = Path(__file__).parent / "results" / "gpu-bench.json"


@dataclass(frozen=True)
class Sizes:
    """How much the rows do."""

    writing: Writing
    tuning: Tuning

    @classmethod
    def of(cls, device: Device, quick: bool) -> Sizes:
        """A batch that fills a GPU; or hardly anything."""
        if quick:
            return cls(
                Writing(device, n_users=2, n_tokens=8, rounds=1, last_tokens=60),
                Tuning(device, pairs_a_step=2, steps=2, rounds=1, last_tokens=60),
            )
        return cls(
            Writing(device, n_users=64),
            # Kernels are chosen and memory is taken in the first steps.
            Tuning(device, pairs_a_step=16, steps=8, warm_up=2, rounds=2, last_tokens=500),
        )


KINDS: dict[str, tuple[float, Callable[[Sizes], Row]]] = {
    "gpu_sample_vs_transformers": (1.0, lambda sizes: sampling.vs_transformers(sizes.writing)),
    "gpu_sample_vs_limit": (0.5, lambda sizes: gpu_limits.sampling(sizes.writing)),
    "gpu_dpo_vs_trl": (2.0, lambda sizes: tuning.vs_trl(sizes.tuning)),
    "gpu_dpo_vs_limit": (0.5, lambda sizes: gpu_limits.tuning(sizes.tuning)),
}
"""Target and measurement of each row."""


def main(arguments: list[str]) -> int:
    """Measure all rows, or those named; 1 if one failed."""
    asked = _parse(arguments)
    device = Device.gpu(asked.device)
    sizes, here = Sizes.of(device, asked.quick), machine(device)
    print(here, flush=True)
    failed = False
    for name in asked.rows or KINDS:
        entry = _measure(name, sizes)
        put(entry | {"machine": here}, asked.out, KINDS)
        failed |= "error" in entry
    return int(failed)


def _parse(arguments: list[str]) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the rows")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(KINDS))
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.rows) - set(KINDS))
    if unknown:
        parser.error(f"unknown rows {', '.join(unknown)}; there are {', '.join(KINDS)}")
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device in sight; --device cpu tries the rows without one")
    return asked


def _measure(name: str, sizes: Sizes) -> dict[str, object]:
    """The row as in bench.json, or its error."""
    target, kind = KINDS[name]
    start = time.perf_counter()
    row = bench.attempt(name, lambda: replace(kind(sizes), name=name, target=target))
    _free_memory()
    entry = row.to_json() if isinstance(row, Row) else {"name": name, "error": row}
    return entry | {"seconds": time.perf_counter() - start}


def _free_memory() -> None:
    """Trainers hold themselves in circles, and the next row wants their memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def machine(device: Device) -> str:
    """GPU, its memory, what it computes in, and versions, in words; or the processor."""
    if device.name == "cpu":
        return bench.machine()
    facts = torch.cuda.get_device_properties(0)
    return (
        f"{torch.cuda.get_device_name(0)}, {facts.total_memory / 2**30:.0f} GiB, {device.dtype}, "
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, {os.cpu_count()} cores, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
