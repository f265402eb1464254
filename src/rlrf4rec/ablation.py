"""Ablations: the same run again and again, one setting changed at a time.

Each variant is a run like any other, in a folder of its own. What two variants have in common is
computed once: a stage that another variant has finished from the same settings and inputs is taken
over (see `Workspace`), so that a variant that only changes the reward reads the same sampled texts,
to the last letter, as the one that it is held against.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import JsonValue

from rlrf4rec.config import Config, load_config
from rlrf4rec.config.loading import read_yaml
from rlrf4rec.errors import ConfigError, DataError, MissingPartError, WorkspaceError
from rlrf4rec.evaluation.ablations import (
    Ablations,
    Axis,
    VariantRow,
    read_ablations,
    variant_row,
    write_ablations,
)
from rlrf4rec.evaluation.report import main_metric
from rlrf4rec.evaluation.results import Results
from rlrf4rec.progress import OnProgress, Reporter, Silent
from rlrf4rec.running import run
from rlrf4rec.stages.world import require_parts
from rlrf4rec.workspace import lock_folder, readable_os_errors

BASELINE = "baseline"

# Axes and variants name folders.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Variant:
    """One value of an axis.

    Attributes:
        axis: what is varied, such as ``reward_metric``.
        name: which value this is.
        settings: what it changes, by ``section.key``.
        config: the whole run's settings.
    """

    axis: str
    name: str
    settings: dict[str, JsonValue]
    config: Config

    @property
    def folder(self) -> Path:
        """Of its run, relative to the ablation's folder."""
        return Path(self.axis) / self.name


@dataclass(frozen=True)
class Plan:
    """What is to be run: the baseline, then every variant."""

    baseline: Config
    variants: tuple[Variant, ...]

    @property
    def axes(self) -> list[str]:
        """In the file's order."""
        return list(dict.fromkeys(variant.axis for variant in self.variants))


def load_plan(
    base: Path | str,
    ablations: Path | str,
    overrides: Sequence[str] = (),
    axes: Sequence[str] = (),
) -> Plan:
    """Read a run's configuration and a file of axes, and check every variant before any is run.

    The file maps each axis to its variants, and each variant to the settings that it changes::

        reward_metric:
          ndcg: {reward.metric: ndcg}
          log_likelihood: {reward.metric: log_likelihood}

    Args:
        base: the configuration of the baseline.
        ablations: the file of axes.
        overrides: ``section.key=value``, for the baseline and all variants.
        axes: only these; none: all.

    Raises:
        ConfigError: a file cannot be read, or settings are wrong; all of them are named together.
    """
    baseline = load_config(base, list(overrides))
    table = _read_axes(Path(ablations))
    unknown = [axis for axis in axes if axis not in table]
    if unknown:
        raise ConfigError(
            f"axes of {ablations}: {', '.join(table)}",
            found=", ".join(unknown),
            remedy="Correct --axis, or add the axis to the file.",
        )
    variants, problems = [], []
    for axis in dict.fromkeys(axes or table):
        for name, settings in table[axis].items():
            changes = [f"{key}={_yaml(value)}" for key, value in settings.items()]
            try:
                config = load_config(base, [*overrides, *changes])
                require_parts(config)
            except ConfigError as error:
                problems.append(f"{axis}/{name}: {error.found}")
            else:
                variants.append(Variant(axis, name, settings, config))
    if problems:
        raise ConfigError(
            "known settings within their ranges in every variant",
            found="; ".join(problems),
            remedy="docs/reference/configuration.md lists every setting.",
        )
    return Plan(baseline, tuple(variants))


def ablate(plan: Plan, output: Path | str, reporter: Reporter | None = None) -> Ablations:
    """Run the baseline and all variants, and write their tables after each of them.

    ``output`` holds a run's folder for the baseline (``baseline/``) and for each variant
    (``AXIS/VARIANT/``), ``ablations.json`` and ``ablations.md``. A variant with the baseline's own
    settings is the baseline. Finished work is not redone. A variant whose data do not suffice (too
    few pairs, say), whose tuning diverges, or whose model is not there, is named as failed in its
    table; the others go on. Tables of other axes that are in the folder stay.

    Raises:
        RLRF4RecError: the baseline cannot be run, the folder is in use or not an ablation's.
    """
    output = Path(output)
    _require_own_folder(output)
    with readable_os_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    reporter = reporter or Silent()
    folders = [output / BASELINE, *(output / variant.folder for variant in plan.variants)]
    with lock_folder(output):
        results = run(plan.baseline, folders[0], _Named(reporter, BASELINE), folders[1:])
        metric = main_metric(results)
        rows: dict[str, list[VariantRow]] = {
            axis: _baseline_rows(plan, axis, results, metric) for axis in plan.axes
        }
        others = _other_axes(output, plan, results, metric)
        for variant in plan.variants:
            if variant.config != plan.baseline:
                row = _run_variant(variant, output, folders, metric, reporter)
                rows[variant.axis].append(row)
            tables = Ablations(
                dataset=results.dataset,
                lists=results.lists,
                metric=metric,
                axes=[
                    *others,
                    *(Axis(axis=axis, variants=of_axis) for axis, of_axis in rows.items()),
                ],
            )
            write_ablations(output, tables)
    return tables


def _other_axes(output: Path, plan: Plan, results: Results, metric: str) -> list[Axis]:
    """Tables that the folder has of axes not in the plan, where their baseline is the same."""
    before = read_ablations(output)
    if before is None:
        return []
    mine = variant_row(results, metric, variant=BASELINE, baseline=True, settings={}, run=BASELINE)
    return [
        axis
        for axis in before.axes
        if axis.axis not in plan.axes
        and any(row.baseline and row.systems == mine.systems for row in axis.variants)
    ]


def _run_variant(
    variant: Variant, output: Path, folders: list[Path], metric: str, reporter: Reporter
) -> VariantRow:
    folder = output / variant.folder
    try:
        results = run(
            variant.config,
            folder,
            _Named(reporter, str(variant.folder)),
            [other for other in folders if other != folder],
        )
    except (ConfigError, DataError, MissingPartError) as error:
        return VariantRow(
            variant=variant.name, baseline=False, settings=variant.settings, failed=str(error)
        )
    return variant_row(
        results,
        metric,
        variant=variant.name,
        baseline=False,
        settings=variant.settings,
        run=str(variant.folder),
    )


def _baseline_rows(plan: Plan, axis: str, results: Results, metric: str) -> list[VariantRow]:
    """The baseline's row under the name of the variant that equals it, if there is one."""
    same = [
        (variant.name, variant.settings)
        for variant in plan.variants
        if variant.axis == axis and variant.config == plan.baseline
    ]
    return [
        variant_row(results, metric, variant=name, baseline=True, settings=settings, run=BASELINE)
        for name, settings in same or [(BASELINE, {})]
    ]


@dataclass(frozen=True)
class _Named:
    """A reporter that says whose stage it is."""

    reporter: Reporter
    run: str

    def start(self, stage: str, unit: str) -> OnProgress:
        """See `Reporter.start`."""
        return self.reporter.start(f"{self.run}: {stage}", unit)

    def finish(self, stage: str, seconds: float) -> None:
        """See `Reporter.finish`."""
        self.reporter.finish(f"{self.run}: {stage}", seconds)


def _require_own_folder(output: Path) -> None:
    if (output / "run.json").exists():
        raise WorkspaceError(
            "a folder for an ablation's runs",
            found=f"{output} is a run's own folder",
            remedy="Name another folder with --output.",
        )


def _read_axes(path: Path) -> dict[str, dict[str, dict[str, JsonValue]]]:
    """Axes, their variants and these' settings, with every name checked."""
    raw = read_yaml(path, "a readable file of ablations", example="configs/ablations/axes.yaml")
    if not isinstance(raw, dict) or not raw:
        raise _wrong_shape(path, "the file", raw)
    axes: dict[str, dict[str, dict[str, JsonValue]]] = {}
    for axis, variants in raw.items():
        name = _name(path, axis)
        if name in (BASELINE, "lock"):
            raise _wrong_shape(path, "an axis", axis)
        if not isinstance(variants, dict) or not variants:
            raise _wrong_shape(path, name, variants)
        axes[name] = {
            _name(path, variant): _settings(path, f"{name}/{variant}", settings)
            for variant, settings in variants.items()
        }
    return axes


def _name(path: Path, found: object) -> str:
    # YAML reads a bare `on` or `off` as a truth value, whose name nobody wrote.
    if isinstance(found, bool) or not _NAME.fullmatch(str(found)):
        raise ConfigError(
            "names of letters, digits, '.', '_' and '-'; on, off, yes and no in quotes",
            found=f"{path}: {found!r}",
            remedy="Rename it, or put it in quotes.",
        )
    return str(found)


def _settings(path: Path, where: str, found: object) -> dict[str, JsonValue]:
    if not isinstance(found, dict):
        raise _wrong_shape(path, where, found)
    for key in found:
        section = str(key).partition(".")[0]
        if section == "machine" or not (key == "seed" or re.fullmatch(r"\w+(\.\w+)+", str(key))):
            raise ConfigError(
                "settings that can change a result, as section.key: value",
                found=f"{path}: {where}: {key!r}",
                remedy="For example {generation.n_samples: 4}; 'machine' belongs to the base.",
            )
    settings: dict[str, JsonValue] = json.loads(json.dumps(found, default=str))
    return settings


def _wrong_shape(path: Path, where: str, found: object) -> ConfigError:
    return ConfigError(
        "axes of variants of settings, such as {rounds: {'2': {rounds.n_rounds: 2}}}",
        found=f"{path}: {where}: {str(found)[:80]!r}",
        remedy="See configs/ablations/axes.yaml; 'baseline' and 'lock' are no axes.",
    )


def _yaml(value: JsonValue) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True))
