"""Step 1: who writes the preference texts. Engines behind one interface, seeded per sample."""

from rlrf4rec.generation.base import Engine, Request, Text
from rlrf4rec.generation.engines import choose_engine, open_engine, open_scorer
from rlrf4rec.generation.lines import LineWriter

__all__ = [
    "Engine",
    "LineWriter",
    "Request",
    "Text",
    "choose_engine",
    "open_engine",
    "open_scorer",
]
