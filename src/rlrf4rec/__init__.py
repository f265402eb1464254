"""Tune a language model on a recommender's feedback, and rerank with what it writes.

A reference implementation of RLRF4Rec (arXiv 2410.05939):

    import rlrf4rec

    if __name__ == "__main__":  # worker processes import the script again
        config = rlrf4rec.load_config("configs/demo.yaml")
        rlrf4rec.run(config, "runs/demo")
        run = rlrf4rec.load_run("runs/demo")
        run.rerank(["242", "302", "51"], user_id="22")

The names are imported on first use: ``import rlrf4rec`` alone loads neither torch nor polars.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlrf4rec.api import Run, load_run
    from rlrf4rec.config import Config, load_config
    from rlrf4rec.errors import RLRF4RecError
    from rlrf4rec.running import run
    from rlrf4rec.serving import RankRequest

__version__ = "0.1.0"

__all__ = ["Config", "RLRF4RecError", "RankRequest", "Run", "load_config", "load_run", "run"]

_HOMES = {
    "Config": "config",
    "RLRF4RecError": "errors",
    "RankRequest": "serving",
    "Run": "api",
    "load_config": "config",
    "load_run": "api",
    "run": "running",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
