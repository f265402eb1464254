"""How well recommenders hear what a text says: python benchmarks/hearing.py RUN [key=value …]

Texts that are sure to be true of a user (made of the reading history) beside the untuned LLM's:
NDCG@5 on the lists of LLM fold 0 only, one seed, and the difference to `untuned` with its standard
error over users. Settings such as knowledge.lexical_dim=0 or knowledge.practice_texts=0 say what a
part of the hearing is worth.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from fold_0 import ndcg_on_fold_0, standard_error
from rlrf4rec.config import load_config
from rlrf4rec.knowledge.texts import history_texts, liked_items, profile_vectors
from rlrf4rec.records import FloatArray
from rlrf4rec.stages.systems import System, both_halves
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace

BACKBONES = ("setrank", "dlcm")
N_TITLES, N_GENRES, N_TEXTS = 3, 4, 2


def main(folder: Path, overrides: list[str]) -> None:
    """Print a row a system."""
    with TemporaryDirectory() as temporary:
        world = open_world(load_config(folder / "config.yaml", overrides), Workspace(temporary))
        systems = _systems(world, pl.read_parquet(folder / "round-0/base/samples/samples.parquet"))
        values, users = ndcg_on_fold_0(world, systems, BACKBONES)
    for system in systems:
        cells = []
        for backbone in BACKBONES:
            value = values[system.name, backbone]
            gain = value - values["untuned", backbone]
            error = standard_error(gain, users)
            cells.append(f"{backbone} {value.mean():.4f} ({gain.mean():+.4f} ± {error:.4f})")
        print(f"{system.name:20s}", *cells)


def _systems(world: World, untuned: pl.DataFrame) -> list[System]:
    dataset, histories = world.dataset, world.histories
    liking = world.config.data.positive_rating
    written = untuned.filter(pl.col("sample") < N_TEXTS).sort("sample", "user")["text"]
    first = [world.linker.link(text) for text in written]
    rng = np.random.default_rng(0)
    sure = [
        _titles_and_genres(world, items, rng)
        for _ in range(N_TEXTS)
        for items in liked_items(histories, liking)
    ]
    profiles = profile_vectors(histories, world.item_vectors)
    encode = world.encoder.encode
    return [
        _system(world, "untuned", encode(first)),
        System("id", None, np.full((dataset.n_users, 2, 1), -1)),
        _system(world, "titles and genres", encode(sure)),
        _system(world, "history_text", encode(history_texts(dataset, histories, liking))),
        _system(world, "profile", profiles),
    ]


def _system(world: World, name: str, vectors: FloatArray | np.ndarray) -> System:
    """``[a * u, d]`` vectors: all users' first texts, then their second ones, …"""
    rows = np.arange(len(vectors)).reshape(-1, world.dataset.n_users).T
    return System(name, vectors.astype(np.float32), both_halves(rows))


def _titles_and_genres(world: World, items: list[int], rng: np.random.Generator) -> str:
    """A few liked titles and the details' most frequent words, comma-separated ones (genres)."""
    titles, details = world.dataset.items["title"], world.dataset.items["details"]
    some = [titles[items[place]] for place in sorted(rng.permutation(len(items))[:N_TITLES])]
    words = Counter(
        word for item in items for word in details[item].split("; ")[-1].split(", ") if word
    )
    genres = [word for word, _ in words.most_common(N_GENRES)]
    return f"Favourites: {', '.join(some)}\nGenres: {', '.join(genres)}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
