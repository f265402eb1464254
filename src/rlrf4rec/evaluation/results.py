"""A run's results as a machine reads them: ``RUN/results.json``.

The format is stable: keys are added, never renamed, and `FORMAT_VERSION` goes up if a reader has
to change. Floats are rounded to six digits when a row is made, keys come in the order of the
fields below, so equal results give equal files. Charts and tables are made from this and nothing
else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FiniteFloat,
    JsonValue,
    ValidationError,
)

from rlrf4rec.errors import WorkspaceError
from rlrf4rec.workspace import readable_os_errors, write_aside

FORMAT_VERSION = 1

SYSTEMS = (
    "random",
    "popularity",
    "first_stage",
    "id",
    "profile",
    "history_text",
    "llm_zero_shot",
    "shuffled",
    "random_pairs",
    "untuned",
    "untuned_cool",
    "best_of_n",
    "untuned_mean",
    "untuned_with_history",
    "untuned_mean_with_history",
)
"""Systems in the order of every table; ``tuned_round_1``, ``tuned_round_2``, … follow, then
``tuned_round_1_mean``, …, then the other `VARIANTS`."""

MEAN = "_mean"
"""Ends the name of a system that reads the mean of several texts of each user."""

WITH_HISTORY = "_with_history"
"""Ends the name of a system whose texts are joined to the history's own."""

VARIANTS = (MEAN, WITH_HISTORY, f"{MEAN}{WITH_HISTORY}")
"""What follows the name of a system of one text a user, in the order of every table."""


# Adding 0.0 turns -0.0 into 0.0, which would otherwise be printed.
Rounded = Annotated[FiniteFloat, AfterValidator(lambda value: round(value, 6) + 0.0)]
Interval = tuple[Rounded, Rounded]


class Row(BaseModel):
    """A part of a file that is read again; what is not in its fields is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SystemRow(Row):
    """One system's mean of one metric.

    Attributes:
        system: one of `SYSTEMS`, ``tuned_round_<k>``, or a user's own.
        backbone: the recommender; None where the system uses none (random, popularity, …).
        metric: a name of `rlrf4rec.evaluation.metrics.metric_names`.
        mean: over lists; None where none could be scored.
        ci95: from resampled users; None with fewer than two.
        n_users: users behind the mean.
        n_lists: lists behind the mean.
        kind: how the lists' negatives were drawn.
    """

    system: str
    backbone: str | None
    metric: str
    mean: Rounded | None
    ci95: Interval | None
    n_users: int
    n_lists: int
    kind: str


class ComparisonRow(Row):
    """``a`` minus ``b`` on the same lists; `Comparison` says how ``ci95`` and ``p`` are made.

    ``text`` is how tables print it: the difference, its 95 % interval and p.
    """

    a: str
    b: str
    backbone: str | None
    metric: str
    diff: Rounded | None
    ci95: Interval | None
    p: Rounded | None
    n_users: int
    n_lists: int
    kind: str

    @property
    def text(self) -> str:
        if self.diff is None or self.ci95 is None or self.p is None:
            return "n/a"
        low, high = self.ci95
        return f"{self.diff:+.3f} ({low:+.3f} to {high:+.3f}), p = {self.p:.3f}"


class RewardRow(Row):
    """Rewards of a round's texts, averaged over users.

    Attributes:
        round: 0 is the untuned LLM.
        split: ``train``, ``validation`` or ``test``.
        mean: over a user's texts; None where nothing was scored.
        best: the user's best text.
        worst: the user's worst text.
        structure_ok: share of texts in the required structure; None where not checked.
        spread: standard deviation of the rewards within a user.
        reliability: correlation, within users, of a text's rewards on two halves of the user's
            lists that share no feedback; None where users have a single text.
    """

    round: int
    split: str
    mean: Rounded | None
    best: Rounded | None
    worst: Rounded | None
    structure_ok: Rounded | None = None
    spread: Rounded | None = None
    reliability: Rounded | None = None


class Results(Row):
    """Everything that a run has shown.

    Attributes:
        version: of this format.
        dataset: the log's name.
        lists: the primary kind of lists; rows of other kinds say so in ``kind``.
        folds: recommender folds.
        seeds: training seeds of the recommenders.
        n_users: users evaluated.
        n_lists: candidate lists of the primary kind.
        n_lists_without_positive: of these, left out of every mean.
        systems: means.
        comparisons: paired differences.
        rewards: rewards by round and split.
        seconds: wall time by stage (``generate/0``).
        peak_mb: the process's peak of memory in it, in 10^6 bytes; rewards and evaluation train
            in processes of their own, which are not in it. Empty where the system does not tell.
        config: the run's settings, as JSON.
    """

    version: int = FORMAT_VERSION
    dataset: str
    lists: str
    folds: int
    seeds: list[int]
    n_users: int
    n_lists: int
    n_lists_without_positive: int = 0
    systems: list[SystemRow]
    comparisons: list[ComparisonRow]
    rewards: list[RewardRow]
    seconds: dict[str, Rounded]
    peak_mb: dict[str, Rounded] = {}
    config: dict[str, JsonValue]


@dataclass(frozen=True)
class Cell:
    """A mean and its interval; ``text`` is how tables print it."""

    mean: float | None
    ci95: tuple[float, float] | None

    @property
    def text(self) -> str:
        """The mean ± half the interval's width, three digits.

        >>> Cell(0.5812, (0.576, 0.586)).text
        '0.581 ± 0.005'
        """
        if self.mean is None:
            return "n/a"
        if self.ci95 is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ± {(self.ci95[1] - self.ci95[0]) / 2:.3f}"


@dataclass(frozen=True)
class TableRow:
    """A system's cells, one a backbone in `backbones`' order; None where it was not measured."""

    system: str
    cells: tuple[Cell | None, ...]


def backbones(results: Results) -> list[str]:
    """The backbones that occur, in the order of their first row."""
    return list(dict.fromkeys(row.backbone for row in results.systems if row.backbone is not None))


def results_table(results: Results, metric: str, kind: str | None = None) -> list[TableRow]:
    """Rows of the results table: systems in the protocol's order, columns `backbones`.

    A system without a backbone has the same cell in every column; if no row names a backbone,
    there is one column.

    Args:
        results: a run's results.
        metric: for example ``ndcg@5``.
        kind: of lists; None: the primary kind.
    """
    rows = {
        (row.system, row.backbone): Cell(row.mean, row.ci95)
        for row in results.systems
        if row.metric == metric and row.kind == (kind or results.lists)
    }
    columns: list[str | None] = [*backbones(results)] or [None]
    return [
        TableRow(
            system,
            tuple(rows.get((system, column), rows.get((system, None))) for column in columns),
        )
        for system in order_systems(system for system, _ in rows)
    ]


def order_systems(systems: Iterable[str]) -> list[str]:
    """Distinct names in the tables' order: `SYSTEMS`, tuned rounds by number, then the user's own.

    >>> order_systems(["tuned_round_10", "mine", "tuned_round_2", "id", "random"])
    ['random', 'id', 'tuned_round_2', 'tuned_round_10', 'mine']
    """

    def place(system: str) -> tuple[int, str]:
        if system in SYSTEMS:
            return SYSTEMS.index(system), ""
        tuned = tuned_round(system)
        if tuned is not None:
            number, variant = tuned
            return len(SYSTEMS) + 10**4 * ("", *VARIANTS).index(variant) + number, ""
        return 10**9, system

    return sorted(set(systems), key=place)


def tuned_round(system: str) -> tuple[int, str] | None:
    """Round and variant (empty or one of `VARIANTS`) of a tuned system's name; else None.

    >>> tuned_round("tuned_round_2_mean"), tuned_round("untuned_mean")
    ((2, '_mean'), None)
    """
    found = re.fullmatch(rf"tuned_round_(\d+)({'|'.join(VARIANTS)})?", system)
    return None if found is None else (int(found[1]), found[2] or "")


def setting(results: Results, section: str, key: str) -> str:
    """A setting of the run as text, or ``not recorded``."""
    values = results.config.get(section)
    return str(values[key]) if isinstance(values, dict) and key in values else "not recorded"


def write_results(path: Path | str, results: Results) -> None:
    """Write ``results.json``; the file is whole or not there.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    ordered = results.model_copy(
        update={
            "seconds": dict(sorted(results.seconds.items())),
            "peak_mb": dict(sorted(results.peak_mb.items())),
        }
    )
    text = json.dumps(
        ordered.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False
    )
    write_text(path, text + "\n")


def read_results(path: Path | str) -> Results:
    """Read ``results.json``.

    Raises:
        WorkspaceError: no such file, not this format, or a newer version of it.
    """
    path = Path(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkspaceError(
            "a run's results.json",
            found=f"{path} ({error.strerror})",
            remedy="Run the evaluation first: rlrf4rec evaluate RUN.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise WorkspaceError(
            "results.json to be JSON",
            found=f"{path}: {error}",
            remedy="Evaluate again: rlrf4rec evaluate RUN.",
        ) from error
    version = raw.get("version") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise WorkspaceError(
            f"results of format version {FORMAT_VERSION}",
            found=f"{path}: version {version!r}",
            remedy="Read it with the release that wrote it, or evaluate again.",
        )
    try:
        # A later release may have added keys; within a version none has another meaning.
        return Results.model_validate(raw, extra="ignore")
    except ValidationError as error:
        first = error.errors()[0]
        raise WorkspaceError(
            "the fields of results.json",
            found=f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            remedy="Evaluate again: rlrf4rec evaluate RUN.",
        ) from error


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 file aside and rename it, so that no reader ever sees half of it.

    Raises:
        WorkspaceError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    with readable_os_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8", newline="\n"))
