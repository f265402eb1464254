"""Step 1: who writes the preference texts. Engines behind one interface, seeded per sample."""

from rlrf4rec.generation.base import Engine, Part, Request, Text
from rlrf4rec.generation.engines import choose_engine, open_engine, open_scorer, require_device
from rlrf4rec.generation.lines import line_parts

__all__ = [
    "Engine",
    "Part",
    "Request",
    "Text",
    "choose_engine",
    "line_parts",
    "open_engine",
    "open_scorer",
    "require_device",
]
