"""Where a DPO step's time goes: python benchmarks/dpo_profile.py [--device cuda|cpu] [--quick]

The steps of `gpu_bench.py`'s rows. Prints how long a step takes as it is, how long the GPU works in
it and in how many kernels, and the longest of them; then what the host does. On a CPU, and with
--quick, it only tries the script.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import polars as pl
from torch._C._autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

import gpu_bench
from rlrf4rec.alignment import StepReport
from speed.device import Device
from speed.tuning import Tuning, make_steps, tune_ours

LONGEST = 40


def main(work: Tuning) -> None:
    """Print all of it."""
    pairs = work.pairs(0)
    took = work.pairs_a_step / tune_ours(pairs, work)[1]
    print(f"a step: {1e3 * took:.0f} ms, {work.pairs_a_step} pairs, {work.device.dtype}")
    watch = _watch(work, pairs)
    steps = work.steps - work.warm_up
    events: list[FunctionEvent] = watch.events()  # type: ignore[no-untyped-call]
    kernels = [event for event in events if event.device_type == DeviceType.CUDA]
    if kernels:
        spent: dict[str, float] = defaultdict(float)
        for event in kernels:
            spent[event.name] += (event.time_range.end - event.time_range.start) / 1e3 / steps
        print(
            f"the GPU works {sum(spent.values()):.0f} ms of a step, "
            f"in {len(kernels) / steps:.0f} kernels"
        )
        for name in sorted(spent, key=lambda name: -spent[name])[:LONGEST]:
            print(f"{spent[name]:8.2f} ms  {name[:110]}")
    print(watch.key_averages().table(sort_by="self_cpu_time_total", row_limit=LONGEST))


def _watch(work: Tuning, pairs: pl.DataFrame) -> profile:
    """Profile the steps behind those that warm up."""
    activities = [ProfilerActivity.CPU]
    if work.device.name == "cuda":
        activities.append(ProfilerActivity.CUDA)
    watch = profile(activities=activities)

    def on_step(report: StepReport) -> None:
        if report.step == work.warm_up:
            watch.start()
        elif report.step == work.steps:
            watch.stop()

    make_steps(pairs, work, on_step)
    return watch


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    asked = parser.parse_args()
    main(gpu_bench.Sizes.of(Device.gpu(asked.device), asked.quick).tuning)
