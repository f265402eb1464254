"""How long work tells how far it is. The command line shows it; libraries and tests stay silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

OnProgress = Callable[[int, int], None]


class Reporter(Protocol):
    """Hears of a run's stages."""

    def start(self, stage: str, unit: str) -> OnProgress:
        """A stage begins; call the result with (done, total) in this unit as it goes on."""
        ...

    def finish(self, stage: str, seconds: float) -> None:
        """The stage is finished; ``seconds`` is what it took over all attempts."""
        ...


class Silent:
    """Says nothing."""

    def start(self, stage: str, unit: str) -> OnProgress:
        """See `Reporter.start`."""
        return lambda done, total: None

    def finish(self, stage: str, seconds: float) -> None:
        """See `Reporter.finish`."""
