"""The whole `make demo` after installation, against its first version."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from speed.measure import Row, seconds
from speed.work import ROOT

FIRST_VERSION = "3e4e56a"
"""The commit whose README first showed the demo's output."""


def vs_first() -> Row:
    """How many times the first version's seconds today's demo takes; one round of each.

    Today's demo samples longer texts line by line, fewer of them after tuning, draws its lists
    twice and trains more reward models, so its results are others; what is compared is how long one
    waits.
    """
    with _first_version() as first:
        ours, theirs = (seconds(partial(_demo, root)) for root in (ROOT, first))
    return Row(
        "demo_vs_first",
        [ours / theirs],
        target=0.5,
        at_most=True,
        unit="of its time",
        details={"seconds": ours, "first_seconds": theirs},
    )


def _demo(root: Path) -> None:
    with TemporaryDirectory(prefix="rlrf4rec-demo-") as folder:
        subprocess.run(
            [sys.executable, "-m", "rlrf4rec", "run", "configs/demo.yaml", "--output", folder],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root / "src")},
            check=True,
            stdout=subprocess.DEVNULL,
        )


@contextmanager
def _first_version() -> Iterator[Path]:
    """Its source in a work tree that ends with the measurement."""
    with TemporaryDirectory(prefix="rlrf4rec-first-") as folder:
        tree = str(Path(folder) / "tree")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", tree, FIRST_VERSION], check=True)
        try:
            yield Path(tree)
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=True)
