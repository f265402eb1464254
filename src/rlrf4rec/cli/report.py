"""``rlrf4rec report``: the page for people."""

from __future__ import annotations

import typer

from rlrf4rec.cli.console import require_run, safe
from rlrf4rec.cli.live import open_reporter
from rlrf4rec.cli.options import Quiet, RunFolder, Verbose

EPILOG = """\b
Examples:
  rlrf4rec report runs/demo
  xdg-open "$(rlrf4rec report runs/demo)"
"""


def report(run: RunFolder, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Write report.html of an evaluated run again, and print its path.

    What was lost of the evaluation is made again.
    """
    require_run(run)
    from rlrf4rec.running import report_run

    with open_reporter(quiet=quiet) as reporter:
        page = report_run(run, reporter)
    typer.echo(safe(str(page)))
