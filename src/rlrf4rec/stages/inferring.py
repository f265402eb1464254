"""Preference texts on demand, by a finished run's LLM; nothing is written to the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from tempfile import TemporaryDirectory

import polars as pl

from rlrf4rec.errors import MissingPartError, RequestError
from rlrf4rec.stages.trail import Trail
from rlrf4rec.stages.world import World
from rlrf4rec.stages.writing import write_texts
from rlrf4rec.workspace import Stage, Workspace

MAX_NAMED = 5


def infer_texts(
    world: World, trail: Trail, user_ids: Sequence[str], n_samples: int = 1
) -> pl.DataFrame:
    """Let the last round's LLM write what users prefer.

    A user's texts come from the policy that was not tuned on this user (with protocol ``split``:
    from the only one there is), and from the untuned LLM where nothing was tuned. Seeds are the
    run's own, so the first samples are those that the run itself wrote for this user.

    Args:
        world: the run.
        trail: its rounds.
        user_ids: users of the log; repeated ones are written for once.
        n_samples: texts a user, at least 1.

    Returns:
        ``user_id``, ``sample``, ``writer``, ``structure_ok`` and ``text``, in the order asked for.

    Raises:
        RequestError: no user, or unknown users.
        MissingPartError: the run's adapter or prompts are not in its folder, or the LLM is missing.
    """
    if n_samples < 1:
        raise RequestError("at least one text a user", found=str(n_samples), remedy="Ask for one.")
    users = _known_users(world, user_ids)
    last = trail.final
    require_file(trail.prompts, "prompts.parquet")
    parts = []
    for half, some in _by_policy(world, users, tuned=bool(last.tuning)).items():
        tuning = last.tuning.get(half)
        if tuning is not None:
            require_file(tuning, "adapter/adapter_config.json")
        writer = "round-0/base" if tuning is None else last.folder(half)
        with TemporaryDirectory(prefix="rlrf4rec-infer-") as folder:
            aside = dataclasses.replace(world, workspace=Workspace(folder))
            plan = dict.fromkeys(some, n_samples)
            stage = write_texts(aside, writer, plan, trail.prompts, tuning)
            parts.append(stage.frame("samples.parquet"))
    order = pl.DataFrame({"user": users}, schema={"user": pl.Int32})
    return order.join(
        pl.concat(parts).sort("user", "sample"), on="user", how="left", maintain_order="left_right"
    ).select("user_id", "sample", "writer", "structure_ok", "text")


def _known_users(world: World, user_ids: Sequence[str]) -> list[int]:
    if isinstance(user_ids, str):
        raise RequestError(
            "a list of user ids", found=repr(user_ids), remedy=f"Write [{user_ids!r}]."
        )
    ids = list(dict.fromkeys(user_ids))
    if not ids:
        raise RequestError("at least one user id", found="none", remedy="Name users of the log.")
    numbers, written = world.user_numbers, world.folds.written
    unknown = [user_id for user_id in ids if user_id not in numbers]
    if unknown:
        named = ", ".join(map(repr, unknown[:MAX_NAMED]))
        some = ", ".join(map(repr, list(numbers)[:MAX_NAMED]))
        raise RequestError(
            f"users of the run, such as {some}",
            found=f"{len(unknown)} unknown: {named}{', …' if len(unknown) > MAX_NAMED else ''}",
            remedy=f"deployed/users.parquet lists all {len(numbers)}; a text needs a history.",
        )
    users = [numbers[user_id] for user_id in ids]
    silent = [user_id for user_id, user in zip(ids, users, strict=True) if not written[user]]
    if silent:
        raise RequestError(
            "users that the run's LLM writes for",
            found=f"{len(silent)} others: {', '.join(map(repr, silent[:MAX_NAMED]))}",
            remedy="Set generation.max_users higher, or to null, and run again.",
        )
    return users


def _by_policy(world: World, users: list[int], *, tuned: bool) -> dict[int, list[int]]:
    """Users by the half whose policy writes for them."""
    if not tuned or world.folds.protocol == "split":
        return {0: users}
    by_policy: dict[int, list[int]] = {}
    for user in users:
        by_policy.setdefault(int(1 - world.folds.half[user]), []).append(user)
    return by_policy


def require_file(stage: Stage, name: str) -> None:
    """Raise `MissingPartError` where a stage's file was not copied along."""
    if not (stage.folder / name).exists():
        raise MissingPartError(
            f"{name} in {stage.folder}",
            found="none (published runs may leave it out)",
            remedy="Run the configuration yourself: rlrf4rec run CONFIG",
        )
