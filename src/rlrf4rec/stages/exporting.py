"""A run's tuned LLM as a model of its own, for any engine and for later runs."""

from __future__ import annotations

from pathlib import Path

from rlrf4rec.errors import RequestError
from rlrf4rec.models import language_model_folder
from rlrf4rec.stages.inferring import require_file
from rlrf4rec.stages.trail import Trail
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import readable_os_errors


def export_model(world: World, trail: Trail, output: Path, policy: int = 0) -> None:
    """Write the LLM of the last round, adapter merged, in Hugging Face's layout.

    Args:
        world: the run.
        trail: its rounds.
        output: a folder that does not exist yet, or an empty one.
        policy: the half of the users that it was tuned on; protocol ``split`` has one, 0.

    Raises:
        RequestError: no such policy, or a folder that holds something.
        MissingPartError: the run's adapter is not in its folder, or the LLM is missing.
        WorkspaceError: the folder cannot be written to.
    """
    tuning = trail.final.tuning.get(policy)
    if tuning is None:
        policies = ", ".join(map(str, sorted(trail.final.tuning)))
        raise RequestError(
            f"a policy of round {trail.final.number}: {policies or 'none was tuned or kept'}",
            found=str(policy),
            remedy="Name another with --policy."
            if policies
            else "The run's LLM is still the one that model.name says.",
        )
    require_file(tuning, "adapter/adapter_config.json")
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise RequestError(
            "a folder that is not there yet",
            found=f"{output}, which holds something",
            remedy="Name another folder.",
        )
    from rlrf4rec.alignment import merge_adapter

    with readable_os_errors(output.parent, "as OUTPUT"):
        merge_adapter(
            language_model_folder(world.config.model.name), tuning.folder / "adapter", output
        )
