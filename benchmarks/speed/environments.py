"""Peers that the product does not need, each in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".bench"


def peer_python(name: str, packages: Sequence[str]) -> Path:
    """The interpreter of a peer's environment, which is made where there is none.

    Args:
        name: of the environment.
        packages: what to install, as pip takes it.

    Raises:
        subprocess.CalledProcessError: the packages cannot be installed.
    """
    folder = FOLDER / name
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *packages]
        subprocess.run(install, check=True, stdout=sys.stderr)
        done.touch()
    return python
