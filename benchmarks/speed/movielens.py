"""Real texts and lists to measure on: those of the demo's MovieLens-100K."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlrf4rec.config import Config, load_config
from rlrf4rec.data import load_dataset, reading_histories
from rlrf4rec.knowledge.texts import history_texts, item_texts
from rlrf4rec.records import Dataset, Histories

_CONFIG = Path(__file__).parents[2] / "configs" / "demo.yaml"


@dataclass(frozen=True)
class MovieLens:
    """The demo's log and its texts.

    Attributes:
        config: the demo's settings.
        dataset: the cleaned log.
        histories: reading histories, ``[u, h]``.
        items: a text of each item, ``[i]``.
        users: the reading history's text of each user, ``[u]``; empty where nothing was liked.
    """

    config: Config
    dataset: Dataset
    histories: Histories
    items: list[str]
    users: list[str]


def movielens() -> MovieLens:
    """Load it from the package that carries it."""
    config = load_config(_CONFIG)
    dataset = load_dataset(config)
    histories = reading_histories(dataset, config.lists)
    return MovieLens(
        config,
        dataset,
        histories,
        item_texts(dataset),
        history_texts(dataset, histories, config.data.positive_rating),
    )
