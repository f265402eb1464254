"""A run from configuration to report. The command line and the Python API both come here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from rlrf4rec.config import Config, load_config
from rlrf4rec.errors import ConfigError, WorkspaceError
from rlrf4rec.evaluation.report import write_report
from rlrf4rec.evaluation.results import Results, read_results, write_results, write_text
from rlrf4rec.generation import require_device
from rlrf4rec.loop import run_rounds
from rlrf4rec.progress import Reporter
from rlrf4rec.stages.deploying import deploy
from rlrf4rec.stages.evaluating import evaluate
from rlrf4rec.stages.reporting import stories, tuning_curves
from rlrf4rec.stages.world import open_world
from rlrf4rec.workspace import Workspace


def run(
    config: Config,
    output: Path | str,
    reporter: Reporter | None = None,
    siblings: Sequence[Path] = (),
) -> Results:
    """The main job: rounds, evaluation, report, deployed reranker. Finished work is not redone.

    Args:
        config: the run's settings.
        output: its folder.
        reporter: hears of progress.
        siblings: other run folders; a stage that one of them has finished from the same settings
            and inputs is taken over.

    Raises:
        RLRF4RecError: bad data or settings, missing parts, a folder in use.
    """
    require_device(config.machine.device)
    return _complete(config, Workspace(output, siblings=siblings), reporter)


def evaluate_run(folder: Path | str, reporter: Reporter | None = None) -> Results:
    """Evaluate a run's texts again, without the LLM; its own config.yaml says how.

    Raises:
        RLRF4RecError: not a run, or its texts were made with other settings.
    """
    workspace = Workspace(folder, replay=True)
    workspace.require_run()
    return _complete(run_config(folder), workspace, reporter)


def report_run(folder: Path | str, reporter: Reporter | None = None) -> Path:
    """Write report.html again from a run's finished stages, and return its path.

    Raises:
        RLRF4RecError: as `evaluate_run`, or the run was never evaluated.
    """
    read_results(Path(folder) / "results.json")
    evaluate_run(folder, reporter)
    return Path(folder) / "report.html"


def run_config(folder: Path | str) -> Config:
    """The configuration that a run folder was made with."""
    path = Path(folder) / "config.yaml"
    if not path.exists():
        raise WorkspaceError(
            "a run folder with its config.yaml",
            found=f"none in {folder}",
            remedy="Make one with: rlrf4rec run CONFIG",
        )
    return load_config(path)


def _complete(config: Config, workspace: Workspace, reporter: Reporter | None) -> Results:
    with workspace.lock():
        world = open_world(config, workspace, reporter)
        _forget_results_of_others(config, workspace.folder)
        remember(config, workspace.folder)
        trail = run_rounds(world)
        evaluation = evaluate(world, trail)
        deploy(world, trail)
        write_results(workspace.folder / "results.json", evaluation.results)
        write_report(
            workspace.folder / "report.html",
            evaluation.results,
            stories(world, trail, evaluation.stages[config.evaluation.kinds[0]]),
            tuning_curves(trail),
        )
    return evaluation.results


def _forget_results_of_others(config: Config, folder: Path) -> None:
    """Remove results of other settings: with them, a stopped run would pass for finished."""
    if not (folder / "config.yaml").exists():
        return
    try:
        before = run_config(folder).model_copy(update={"machine": config.machine})
    except ConfigError:  # of another release, or damaged: it is written anew
        before = None
    if before != config:
        for name in ("results.json", "report.html"):
            (folder / name).unlink(missing_ok=True)


def remember(config: Config, folder: Path) -> None:
    """Write the run's ``config.yaml``, from which it is evaluated again."""
    text = yaml.safe_dump(json.loads(config.model_dump_json()), sort_keys=False)
    write_text(folder / "config.yaml", text)
