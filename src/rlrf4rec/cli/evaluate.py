"""``rlrf4rec evaluate``: the results again, from a run's texts."""

from __future__ import annotations

from rlrf4rec.cli.console import require_run, show_json, show_results
from rlrf4rec.cli.live import open_reporter
from rlrf4rec.cli.options import Json, Quiet, RunFolder, Verbose

EPILOG = """\b
Examples:
  rlrf4rec evaluate runs/demo
  rlrf4rec evaluate runs/demo --json > results.json
"""


def evaluate(
    run: RunFolder, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Evaluate a run's texts again, without the LLM; whatever is finished is kept."""
    require_run(run)
    from rlrf4rec.running import evaluate_run

    with open_reporter(quiet=quiet) as reporter:
        results = evaluate_run(run, reporter)
    if as_json:
        show_json(results.model_dump(mode="json"))
    else:
        show_results(results, run)
