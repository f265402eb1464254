"""What linking items is worth: python benchmarks/linked.py RUN [key=value …]

A small LLM copies titles and invents what stands behind them. So items that a text names are
written in the catalogue's own words before it is encoded (`knowledge.link_items`). Recommenders
trained anew on one text a user, untuned and tuned (last round), as written and linked; NDCG@5 with
95 % intervals.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from command import call
from rlrf4rec.config import load_config
from rlrf4rec.stages.systems import System, one_row_each
from rlrf4rec.stages.text_inputs import linked_texts
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace
from tuned import difference, held_out, trained_ndcg

_PAIRS = (
    ("tuned, linked", "untuned, linked"),
    ("tuned, linked", "tuned"),
    ("tuned, linked", "untuned"),
    ("untuned, linked", "untuned"),
)


def main(folder: Path, overrides: list[str]) -> None:
    """Print each pair of systems for each reranker."""
    with TemporaryDirectory() as temporary:
        world = open_world(load_config(folder / "config.yaml", overrides), Workspace(temporary))
        values, users = trained_ndcg(world, _systems(world, folder))
    for first, second in _PAIRS:
        for backbone in world.config.evaluation.backbones:
            gain = difference(values[first, backbone], values[second, backbone], users)
            print(f"{first} - {second}, {backbone}: {gain}")


def _systems(world: World, folder: Path) -> list[System]:
    texts_of = held_out(world, folder)
    written = {name: texts["text"].to_list() for name, texts in texts_of.items()}
    linked = {f"{name}, linked": linked_texts(world, texts) for name, texts in texts_of.items()}
    own = one_row_each(world)
    return [
        System(name, world.encoder.encode(texts), own)
        for name, texts in {**written, **linked}.items()
    ]


if __name__ == "__main__":
    call(lambda given: main(Path(given[0]), given[1:]), least=1)
