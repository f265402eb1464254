"""Tables of an ablation: what each variant of a setting changed, as JSON and as Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from rlrf4rec.evaluation import words
from rlrf4rec.evaluation.results import (
    Cell,
    ComparisonRow,
    Results,
    RewardRow,
    Rounded,
    Row,
    SystemRow,
    order_systems,
    write_text,
)
from rlrf4rec.workspace import read_json

FORMAT_VERSION = 1

_SHOWN = re.compile(r"id|random_pairs|untuned|best_of_n|tuned_round_\d+")
_TUNED = re.compile(r"tuned_round_(\d+)")


class VariantRow(Row):
    """One variant of an axis.

    Attributes:
        variant: its name.
        baseline: whether this is the run without any change.
        settings: what it changes, by ``section.key``.
        run: the run's folder, relative to the ablation's; None where it could not be made.
        failed: why it could not; None where it was made.
        systems: means of the main metric on the primary kind of lists.
        comparisons: differences to ``untuned``, the same.
        rewards: held-out rewards by round: texts of users the policy never learned from.
        seconds: wall time of all of the run's stages, those taken over from another run included.
    """

    variant: str
    baseline: bool
    settings: dict[str, JsonValue]
    run: str | None = None
    failed: str | None = None
    systems: list[SystemRow] = Field(default_factory=list)
    comparisons: list[ComparisonRow] = Field(default_factory=list)
    rewards: list[RewardRow] = Field(default_factory=list)
    seconds: Rounded | None = None


class Axis(Row):
    """The variants of one axis, the baseline first."""

    axis: str
    variants: list[VariantRow]


class Ablations(Row):
    """Everything that an ablation has shown so far.

    Attributes:
        version: of this format.
        dataset: the log's name.
        lists: the primary kind of lists.
        metric: of ``systems`` and ``comparisons``.
        axes: one table each.
    """

    version: int = FORMAT_VERSION
    dataset: str
    lists: str
    metric: str
    axes: list[Axis]


def variant_row(
    results: Results,
    metric: str,
    *,
    variant: str,
    baseline: bool,
    settings: dict[str, JsonValue],
    run: str,
) -> VariantRow:
    """A finished run's row."""

    def wanted(row: SystemRow | ComparisonRow) -> bool:
        return row.metric == metric and row.kind == results.lists

    return VariantRow(
        variant=variant,
        baseline=baseline,
        settings=settings,
        run=run,
        systems=[row for row in results.systems if wanted(row)],
        comparisons=[row for row in results.comparisons if wanted(row) and row.b == "untuned"],
        rewards=[row for row in results.rewards if row.split == "test"],
        seconds=sum(results.seconds.values()),
    )


def read_ablations(folder: Path) -> Ablations | None:
    """What `write_ablations` wrote; None where there is nothing of this version."""
    try:
        found = Ablations.model_validate(read_json(folder / "ablations.json"), extra="ignore")
    except ValidationError:
        return None
    return found if found.version == FORMAT_VERSION else None


def write_ablations(folder: Path, ablations: Ablations) -> None:
    """Write ``ablations.json`` and ``ablations.md``; each is whole or not there.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    text = json.dumps(ablations.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_text(folder / "ablations.json", text + "\n")
    write_text(folder / "ablations.md", ablations_markdown(ablations))


def ablations_markdown(ablations: Ablations) -> str:
    """One table an axis: a row for each variant and reranker."""
    metric = words.metric_label(ablations.metric)
    parts = [
        f"# Ablations on {ablations.dataset}\n\n"
        f"{metric} on `{ablations.lists}` lists, ± half the 95 % interval. Difference: the last "
        "tuned round minus `untuned`, with its 95 % interval and p. Held-out reward and share of "
        "well-formed texts: from the untuned LLM to the last round. A row's reward is measured by "
        "its own reward model, so rewards are comparable along a row, and between rows only where "
        "the reward is the same."
    ]
    for axis in ablations.axes:
        parts.append(f"## {axis.axis}\n\n" + "\n".join(_table(axis)))
    return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class _Line:
    """One variant with one reranker."""

    variant: VariantRow
    backbone: str | None

    def cell(self, system: str) -> str:
        for row in self.variant.systems:
            if row.system == system and row.backbone == self.backbone:
                return Cell(row.mean, row.ci95).text
        return ""

    def difference(self) -> str:
        tuned = _tuned(row.system for row in self.variant.systems)
        for row in self.variant.comparisons:
            if tuned and row.a == tuned[-1] and row.backbone == self.backbone:
                return row.text
        return ""


def _table(axis: Axis) -> Iterator[str]:
    systems = order_systems(
        row.system
        for variant in axis.variants
        for row in variant.systems
        if _SHOWN.fullmatch(row.system)
    )
    heads = ["variant", "reranker", *(f"`{system}`" for system in systems)]
    heads += ["difference", "held-out reward", "well-formed", "seconds"]
    yield _row(heads)
    yield "|" + "---|" * len(heads)
    for variant in axis.variants:
        name = variant.variant
        if variant.baseline and name != "baseline":
            name += " (baseline)"
        if variant.failed is not None:
            yield _row([name, f"failed: {variant.failed}", *[""] * (len(heads) - 2)])
            continue
        seconds = "" if variant.seconds is None else f"{variant.seconds:,.0f}"
        rewards = [row.mean for row in variant.rewards]
        formed = [row.structure_ok for row in variant.rewards]
        for backbone in dict.fromkeys(
            row.backbone for row in variant.systems if row.backbone is not None
        ):
            line = _Line(variant, backbone)
            yield _row(
                [
                    name,
                    words.backbone_label(backbone),
                    *map(line.cell, systems),
                    line.difference(),
                    _from_to(rewards),
                    _from_to(formed),
                    seconds,
                ]
            )


def _tuned(systems: Iterable[str]) -> list[str]:
    return [name for name in order_systems(systems) if _TUNED.fullmatch(name)]


def _from_to(values: list[float | None]) -> str:
    ends = values[:1] + values[-1:] if len(values) > 1 else values
    return " → ".join("n/a" if value is None else f"{value:.3f}" for value in ends)


def _row(cells: Iterable[str]) -> str:
    # A name or a message of unknown origin must not end its cell.
    plain = (words.visible(" ".join(cell.split())).replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(plain) + " |"
