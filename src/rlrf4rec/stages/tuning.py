"""Step 5 as a stage: tune the LLM on the pairs."""

from __future__ import annotations

import shutil
from pathlib import Path

from rlrf4rec.errors import DataError
from rlrf4rec.generation.engines import choose_device, choose_dtype
from rlrf4rec.models import language_model_folder
from rlrf4rec.stages.world import World, model_settings
from rlrf4rec.workspace import Stage, StageWriter, read_stage

MIN_PAIRS = 2


def has_pairs(run: Path, name: str, pairs: Stage) -> bool:
    """Whether there are pairs for the tuning of round and policy ``name`` to learn from.

    Pairs quote the data set and are not published: a published run tells by what it tuned.
    """
    if not (pairs.folder / "pairs.parquet").exists():
        return read_stage(run / name / "tuning") is not None
    return pairs.frame("pairs.parquet").height >= MIN_PAIRS


def align(world: World, name: str, pairs: Stage, before: Stage | None) -> Stage:
    """DPO on the pairs, going on from the policy of the round ``before`` (None: the untuned LLM).

    Writes ``adapter/`` (PEFT's format, relative to the untuned LLM) and ``curve.parquet``.

    Raises:
        DataError: too few pairs to learn from.
    """
    config = world.config
    stage_name = f"{name}/tuning"
    on_progress = world.reporter.start(stage_name, "steps")

    def work(writer: StageWriter) -> None:
        from rlrf4rec.alignment import tune

        frame = pairs.frame("pairs.parquet")
        if frame.height < MIN_PAIRS:
            raise DataError(
                f"at least {MIN_PAIRS} preference pairs in {pairs.folder}",
                found=f"{frame.height}",
                remedy=f"Lower reward.margin ({config.reward.margin:g}), sample more texts "
                f"(generation.n_samples, {config.generation.n_samples}), use more training users, "
                "or set rounds.n_rounds=0 to evaluate the untuned texts alone.",
            )
        checkpoints = writer.folder / ".checkpoints"
        tune(
            language_model_folder(config.model.name),
            frame,
            config.alignment,
            dtype=choose_dtype(config.model, config.machine),
            seed=config.tuning_seed,
            output=writer.folder,
            start_adapter=None if before is None else before.folder / "adapter",
            device=choose_device(config.machine),
            on_step=lambda report: on_progress(report.step, report.total_steps),
            checkpoint_folder=checkpoints,
        )
        shutil.rmtree(checkpoints, ignore_errors=True)

    settings = {
        "alignment": config.alignment.of_tuning(),
        "model": model_settings(config.model),
        "seed": config.tuning_seed,
    }
    needs = [pairs] if before is None else [pairs, before]
    stage = world.workspace.stage(stage_name, settings, needs, work)
    world.reporter.finish(stage_name, stage.seconds)
    return stage
