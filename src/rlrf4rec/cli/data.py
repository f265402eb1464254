"""``rlrf4rec data``: look at a log."""

from __future__ import annotations

import typer

from rlrf4rec.cli.console import show_facts, show_json
from rlrf4rec.cli.options import ConfigFile, Json, Settings, Verbose

EPILOG = """\b
Examples:
  rlrf4rec data describe configs/demo.yaml
  rlrf4rec data describe configs/demo.yaml --set data.max_users=100 --json
"""

app = typer.Typer(help="Look at a log.", no_args_is_help=True, rich_markup_mode=None)


@app.callback(epilog=EPILOG)
def _data() -> None:
    """Look at a log."""


@app.command(epilog=EPILOG)
def describe(
    config: ConfigFile, settings: Settings = None, as_json: Json = False, verbose: Verbose = False
) -> None:
    """Say what is in the log, what its candidate lists look like, and what was dropped."""
    from rlrf4rec.config import load_config

    loaded = load_config(config, settings)
    from rlrf4rec.data import candidate_lists, load_dataset, reading_histories
    from rlrf4rec.data import describe as describe_log

    dataset = load_dataset(loaded)
    histories = reading_histories(dataset, loaded.lists)
    # What a first stage would retrieve is not known before it is trained.
    kind = "popular" if loaded.lists.kind == "first_stage" else loaded.lists.kind
    lists = candidate_lists(dataset, loaded, kind, draws=1, seed=loaded.seed)
    facts = describe_log(dataset, histories, lists)
    if as_json:
        show_json(facts)
    else:
        show_facts(dict(facts))
