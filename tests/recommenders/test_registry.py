from __future__ import annotations

import pytest
from small_world import SmallWorld
from torch import Tensor

from rlrf4rec.errors import ConfigError
from rlrf4rec.recommenders import Reranker, resolve_backbone
from rlrf4rec.recommenders.features import ReadItems
from rlrf4rec.recommenders.mir import MIR
from rlrf4rec.recommenders.prm import PRM


class Indifferent(Reranker):
    """A user's own backbone: candidates change nothing about each other."""

    reads_order = False

    def compare(self, features: Tensor, history: ReadItems | None = None) -> Tensor:
        return features.sum(-1) * 0


def test_names_and_class_paths() -> None:
    assert resolve_backbone("prm") is PRM
    assert resolve_backbone("mir") is MIR
    assert resolve_backbone(f"{__name__}:Indifferent") is Indifferent


def test_own_backbone_is_trained_like_ours(world: SmallWorld) -> None:
    model = world.fit(f"{__name__}:Indifferent")
    assert isinstance(model.model, Indifferent)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pmr", "dlcm, prm, setrank"),
        ("no.such.module:Model", "No module named"),
        ("rlrf4rec.recommenders.prm:Nothing", "Nothing"),
        ("rlrf4rec.records:CandidateLists", "subclass of"),
    ],
)
def test_what_is_no_backbone_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_backbone(name)
