"""``rlrf4rec validate``: would this configuration run, and what would it do?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rlrf4rec.cli.console import safe, show_facts, show_json
from rlrf4rec.cli.options import ConfigFile, Json, Settings, Verbose

if TYPE_CHECKING:
    from rlrf4rec.config import Config

EPILOG = """\b
Examples:
  rlrf4rec validate configs/demo.yaml
  rlrf4rec validate my.yaml --set prompt.template=products --prompt
"""


def validate(
    config: ConfigFile,
    settings: Settings = None,
    show_prompt: Annotated[
        bool, typer.Option("--prompt", help="Show what the LLM reads of the first user.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Check settings, data and prompt template, and say what a run would do."""
    from rlrf4rec.config import load_config

    plan, prompt = _plan(load_config(config, settings))
    if as_json:
        show_json({"ok": True, **plan, **({"prompt": prompt} if show_prompt else {})})
        return
    show_facts(plan)
    if show_prompt:
        typer.echo(f"prompt of the first user\n\n{safe(prompt)}\n")
    typer.echo("ok")


def _plan(config: Config) -> tuple[dict[str, object], str]:
    """What a run would do, and the prompt of the first user whom the LLM would write for."""
    from rlrf4rec.data import (
        candidate_lists,
        folds_of,
        load_dataset,
        reading_histories,
        require_feedback,
    )
    from rlrf4rec.generation import choose_engine, require_device
    from rlrf4rec.models import require_models
    from rlrf4rec.stages.prompting import UserPrompts
    from rlrf4rec.stages.world import require_parts

    require_device(config.machine.device)
    require_models(config.model.name, config.knowledge.encoder)
    template = require_parts(config)
    dataset = load_dataset(config)
    folds = folds_of(dataset, config)
    lists = {
        # A list a chunk and draw, whatever a first stage will have retrieved.
        kind: candidate_lists(dataset, config, drawn, config.lists.draws, config.seed)
        for kind in dict.fromkeys([config.lists.kind, *config.evaluation.kinds])
        for drawn in ["uniform" if kind == "first_stage" else kind]
    }
    require_feedback(dataset, lists[config.lists.kind], folds, config.data.positive_rating)
    prompts = UserPrompts(config, template, dataset, reading_histories(dataset, config.lists))
    prompt = prompts.of(int(folds.written.argmax()))
    evaluation = config.evaluation
    plan = {
        "data": dataset.name,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": dataset.interactions.height,
        "dropped": dict(dataset.dropped),
        "lists": {kind: len(of_kind) for kind, of_kind in lists.items()},
        "template": f"{template.domain}: {', '.join(template.factors)}",
        "LLM": config.model.name,
        "engine": choose_engine(config.machine),
        "encoder": config.knowledge.encoder,
        "rounds of tuning": config.rounds.n_rounds,
        "policies a round": len(folds.policies),
        "users written for": int(folds.written.sum()),
        "tested users": int((folds.fold >= 0).sum()),
        "texts before tuning": int(folds.written.sum()) * config.generation.n_samples,
        "trainings a system": len(evaluation.backbones) * len(evaluation.seeds) * folds.n_folds,
    }
    return plan, prompt
