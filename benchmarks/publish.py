"""Copy what may be published of a run: python benchmarks/publish.py RUN FOLDER

Texts, rewards, learning curves, results and the keys of all stages: enough for `rlrf4rec evaluate`.
Left out: adapters (size), and the log, prompts and pairs, which quote the data set (its licence).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from command import call
from rlrf4rec.errors import ConfigError

WANTED = ("samples.parquet", "rewards.parquet", "curve.parquet", "stage.json")
TOP = ("run.json", "config.yaml", "results.json")
# The LLM's own ranking (evaluation.zero_shot), which `evaluate` does not compute.
ZERO_SHOT = "zero-shot"
# Computed again by `evaluate`.
LEFT_OUT = ("data", "lists", "first-stage", "evaluation", "deployed", "vectors")


def publish(run: Path, folder: Path) -> None:
    """Write ``folder`` anew from the ``run``, whose texts are finished.

    Raises:
        ConfigError: no run, or a folder that holds it or lies in it; nothing is removed then.
    """
    _require_apart(run.resolve(), folder.resolve())
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for name in TOP:
        # A run may have its texts and no results yet: others can evaluate it.
        if (run / name).exists():
            shutil.copyfile(run / name, folder / name)
    for path in sorted(run.rglob("*")):
        relative = path.relative_to(run)
        hidden = any(part.startswith(".") for part in relative.parts)
        wanted = path.name in WANTED and relative.parts[0] not in LEFT_OUT
        if (wanted or ZERO_SHOT in relative.parts[1:3]) and path.is_file() and not hidden:
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / relative)


def _require_apart(run: Path, folder: Path) -> None:
    if not (run / "run.json").exists():
        raise ConfigError("a run's folder", found=f"no run.json in {run}", remedy="Correct RUN.")
    if folder == run or run in folder.parents or folder in run.parents:
        raise ConfigError("a folder apart from the run", found=str(folder), remedy="Name another.")


if __name__ == "__main__":
    call(lambda given: publish(Path(given[0]), Path(given[1])), least=2)
