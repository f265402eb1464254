"""``rlrf4rec report``: the page for people."""

from __future__ import annotations

import typer

from rlrf4rec.cli.console import require_run, safe
from rlrf4rec.cli.options import RunFolder, Verbose

EPILOG = """\b
Examples:
  rlrf4rec report runs/demo
  xdg-open "$(rlrf4rec report runs/demo)"
"""


def report(run: RunFolder, verbose: Verbose = False) -> None:
    """Write report.html of an evaluated run again, and print its path."""
    require_run(run)
    from rlrf4rec.running import report_run

    typer.echo(safe(str(report_run(run))))
