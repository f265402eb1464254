"""How long one waits for the package and its command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from speed.measure import Row, seconds

_ROUNDS = 7


def import_seconds() -> Row:
    """The slower of ``import rlrf4rec`` and ``rlrf4rec --help``, each in a fresh process."""
    command = str(Path(sys.executable).with_name("rlrf4rec"))
    ways = {
        "import": [sys.executable, "-c", "import rlrf4rec"],
        "help": [command, "--help"],
    }
    rounds = [{way: _seconds(call) for way, call in ways.items()} for _ in range(_ROUNDS)]
    slower = max(ways, key=lambda way: sum(one[way] for one in rounds))
    return Row(
        "import_seconds",
        [one[slower] for one in rounds],
        target=0.5,
        at_most=True,
        unit="s",
        details={way: sorted(one[way] for one in rounds)[_ROUNDS // 2] for way in ways},
    )


def _seconds(call: list[str]) -> float:
    return seconds(lambda: subprocess.run(call, check=True, stdout=subprocess.DEVNULL))
