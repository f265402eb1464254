"""What form of a text is worth most: python benchmarks/forms.py RUN [key=value …]

Texts that are sure to be true, made of the liked films that a prompt shows, in place of the untuned
LLM's first text: so many of them, the first, the last or drawn, with or without their details and
the history's most frequent genres. Beside them what else the results table has without an LLM: no
text, the profile vector, the reading history's text. Recommenders trained anew; NDCG@5 against
`untuned` on the lists of LLM fold 0 only, one seed: mean over lists with its standard error, and
mean over users. Settings such as knowledge.lexical_dim=0 or knowledge.practice_texts=0 say what a
part of the hearing is worth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from command import call
from fold_0 import ndcg_on_fold_0, said_gain
from rlrf4rec.config import load_config
from rlrf4rec.data.seeds import stable_hash
from rlrf4rec.prompts.rendering import HistoryItem
from rlrf4rec.stages.prompting import shown_history
from rlrf4rec.stages.systems import System, history_text, one_row_each, profile, without_text
from rlrf4rec.stages.text_inputs import linked_texts
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace

Pick = Callable[[list[HistoryItem], int], list[HistoryItem]]


def main(folder: Path, overrides: list[str]) -> None:
    """Print a row a form."""
    with TemporaryDirectory() as temporary:
        world = open_world(load_config(folder / "config.yaml", overrides), Workspace(temporary))
        systems = _systems(world, {"untuned": _untuned(world, folder), **_forms(world)})
        backbones = world.config.evaluation.backbones
        values, users = ndcg_on_fold_0(world, systems, backbones)
    for system in systems:
        gain = np.mean([values[system.name, b] - values["untuned", b] for b in backbones], axis=0)
        print(f"{system.name:28s} {said_gain(gain, users)}")


def _systems(world: World, texts: dict[str, list[str]]) -> list[System]:
    one_each = one_row_each(world)
    return [
        *(System(name, world.encoder.encode(some), one_each) for name, some in texts.items()),
        history_text(world),
        profile(world),
        without_text(world),
    ]


def _untuned(world: World, folder: Path) -> list[str]:
    texts = pl.read_parquet(folder / "round-0/base/samples/samples.parquet")
    return linked_texts(world, texts.filter(pl.col("sample") == 0).sort("user"))


def _forms(world: World) -> dict[str, list[str]]:
    """By name, everybody's text."""
    shown = [shown_history(world, user) for user in range(world.dataset.n_users)]
    liked = [_liked(world, items) for items in shown]

    def films(pick: Pick, count: int, *, details: bool = True) -> list[str]:
        return [_films(pick(items, count), details=details) for items in liked]

    def genres(count: int) -> list[str]:
        return [_genres(items, count) for items in shown]

    def both(first: list[str], second: list[str]) -> list[str]:
        return ["\n".join(pair) for pair in zip(first, second, strict=True)]

    return {
        "first 4 films": films(_first, 4),
        "last 4 films": films(_last, 4),
        "2 drawn films": films(_drawn, 2),
        "4 drawn films": films(_drawn, 4),
        "6 drawn films": films(_drawn, 6),
        "8 drawn films": films(_drawn, 8),
        "6 genres": genres(6),
        "3 drawn titles, 4 genres": both(films(_drawn, 3, details=False), genres(4)),
        "6 drawn titles, 4 genres": both(films(_drawn, 6, details=False), genres(4)),
        "4 last films, 4 genres": both(films(_last, 4), genres(4)),
        "4 drawn films, 4 genres": both(films(_drawn, 4), genres(4)),
        "8 drawn films, 4 genres": both(films(_drawn, 8), genres(4)),
        "3 drawn films, 6 genres": both(films(_drawn, 3), genres(6)),
    }


def _liked(world: World, items: list[HistoryItem]) -> list[HistoryItem]:
    liking = world.config.data.positive_rating
    return [item for item in items if item.rating is None or item.rating >= liking] or items


def _first(items: list[HistoryItem], count: int) -> list[HistoryItem]:
    return items[:count]


def _last(items: list[HistoryItem], count: int) -> list[HistoryItem]:
    return items[::-1][:count]


def _drawn(items: list[HistoryItem], count: int) -> list[HistoryItem]:
    rng = np.random.default_rng(stable_hash(*(item.title for item in items)))
    order = rng.permutation(len(items))[:count]
    return [items[place] for place in sorted(order)]


def _films(items: list[HistoryItem], *, details: bool) -> str:
    said = [f"{item.title} ({item.details})" if details else item.title for item in items]
    return f"Favourites: {', '.join(said)}"


def _genres(items: list[HistoryItem], count: int) -> str:
    """The most frequent ones, weighted by rating."""
    weight: defaultdict[str, float] = defaultdict(float)
    for item in items:
        for genre in item.details.split("; ")[-1].split(", "):
            weight[genre] += 1.0 if item.rating is None else item.rating
    most = sorted(weight, key=lambda genre: -weight[genre])[:count]
    return f"Genres: {', '.join(most)}"


if __name__ == "__main__":
    call(lambda given: main(Path(given[0]), given[1:]), least=1)
