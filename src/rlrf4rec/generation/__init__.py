"""Step 1: who writes the preference texts. Engines behind one interface, seeded per sample."""

from rlrf4rec.generation.base import Engine, Request, Text
from rlrf4rec.generation.engines import choose_engine, open_engine, open_scorer

__all__ = ["Engine", "Request", "Text", "choose_engine", "open_engine", "open_scorer"]
