"""Peers that the product does not need, each in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".bench"


def peer_python(name: str, packages: Sequence[str], without: Sequence[str] = ()) -> Path:
    """The interpreter of a peer's environment, which is made where there is none.

    Args:
        name: of the environment.
        packages: what to install, as pip takes it.
        without: what they bring along and the work does not need, taken out again.

    Raises:
        subprocess.CalledProcessError: the packages cannot be installed.
    """
    folder = FOLDER / name
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", *packages], check=True, stdout=sys.stderr)
        if without:
            subprocess.run([*pip, "uninstall", "--quiet", "--yes", *without], check=True)
        done.touch()
    return python
