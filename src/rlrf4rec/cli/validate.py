"""``rlrf4rec validate``: would this configuration run, and what would it do?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from rlrf4rec.cli.console import show_facts, show_json
from rlrf4rec.cli.options import ConfigFile, Json, Settings, Verbose

if TYPE_CHECKING:
    from rlrf4rec.config import Config

EPILOG = """\b
Examples:
  rlrf4rec validate configs/demo.yaml
  rlrf4rec validate my.yaml --set prompt.template=products
"""


def validate(
    config: ConfigFile, settings: Settings = None, as_json: Json = False, verbose: Verbose = False
) -> None:
    """Check settings, data and prompt template, and say what a run would do."""
    from rlrf4rec.config import load_config

    plan = _plan(load_config(config, settings))
    if as_json:
        show_json({"ok": True, **plan})
    else:
        show_facts(plan)
        typer.echo("ok")


def _plan(config: Config) -> dict[str, object]:
    from rlrf4rec.data import candidate_lists, folds_of, load_dataset, require_feedback
    from rlrf4rec.generation import choose_engine, require_device
    from rlrf4rec.models import require_models
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
    evaluation = config.evaluation
    n_folds = int(folds.fold.max()) + 1
    return {
        "data": dataset.name,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": dataset.interactions.height,
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
        "trainings a system": len(evaluation.backbones) * len(evaluation.seeds) * n_folds,
    }
