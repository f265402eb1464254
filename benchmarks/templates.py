"""Which prompt is heard best: python benchmarks/templates.py CONFIG TEMPLATE … [key=value …]

The untuned LLM writes one text for every user with each template (a shipped one's name or a file);
recommenders are trained anew on each. NDCG@5 against the first template on the lists of LLM fold 0
only, one seed: mean over lists with its standard error, and mean over users; beside it the share of
well-formed texts, and an example. The same texts are written again by the next call.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from command import call
from fold_0 import ndcg_on_fold_0, said_gain
from rlrf4rec.config import load_config
from rlrf4rec.evaluation.words import visible
from rlrf4rec.loop import write_first_texts
from rlrf4rec.stages.prompting import write_prompts
from rlrf4rec.stages.systems import System, history_text, one_row_each, profile, without_text
from rlrf4rec.stages.text_inputs import linked_texts
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace

ONE_TEXT_EACH = (
    "generation.n_samples=1",
    "evaluation.n_samples=1",
    # Both folds' users are tested; `fold_0` looks at one of them.
    "folds.protocol=cross",
)


def main(config: Path, templates: list[str], overrides: list[str]) -> None:
    """Print a row a template."""
    with TemporaryDirectory() as temporary:
        systems: list[System] = []
        for number, template in enumerate(templates):
            workspace = Workspace(Path(temporary) / str(number))
            changes = [*overrides, *ONE_TEXT_EACH, f"prompt.template={template}"]
            world = open_world(load_config(config, changes), workspace)
            systems.append(_read_by(world, template))
        systems += [history_text(world), profile(world), without_text(world)]
        backbones = world.config.evaluation.backbones
        values, users = ndcg_on_fold_0(world, systems, backbones)
    for system in systems:
        gain = np.mean(
            [values[system.name, b] - values[templates[0], b] for b in backbones], axis=0
        )
        print(f"{system.name:28s} {said_gain(gain, users)}")


def _read_by(world: World, template: str) -> System:
    """The system whose knowledge is what the template's texts say."""
    texts = write_first_texts(world, write_prompts(world)).frame("samples.parquet").sort("user")
    well_formed = texts["structure_ok"].to_numpy().mean()
    print(f"{template}: {len(texts)} texts, {well_formed:.3f} well-formed, for example")
    print(*map(visible, texts["text"].head(2)), sep="\n\n", flush=True)
    vectors = world.encoder.encode(linked_texts(world, texts))
    return System(template, vectors, one_row_each(world))


if __name__ == "__main__":
    call(
        lambda given: main(
            Path(given[0]),
            [name for name in given[1:] if "=" not in name],
            [setting for setting in given[1:] if "=" in setting],
        ),
        least=2,
    )
