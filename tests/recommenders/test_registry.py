from __future__ import annotations

from pathlib import Path

import pytest
from small_world import SmallWorld
from torch import Tensor

from rlrf4rec.errors import ConfigError
from rlrf4rec.recommenders import Reranker, backbone_identity, resolve_backbone
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


def test_a_module_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken.py").write_text("raise OSError('no such file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="OSError: no such file"):
        resolve_backbone("my_broken:Model")


def test_what_depends_on_a_backbone_depends_on_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one's own, with everything that stands in its file; ours are known by their names."""
    monkeypatch.syspath_prepend(tmp_path)
    code = """
from rlrf4rec.recommenders import Reranker
FACTOR = 1
class Model(Reranker):
    reads_order = False
    def compare(self, features, history=None):
        return FACTOR * features.sum(-1)
"""
    found = []
    for name, text in (
        ("my_first", code),
        ("my_second", code),
        ("my_third", code.replace("= 1", "= 2")),
    ):
        (tmp_path / f"{name}.py").write_text(text)
        found.append(backbone_identity(f"{name}:Model").split())
    (_, one), (_, same), (_, other) = found
    assert one == same != other
    assert found[0][0] == "my_first:Model"
    assert backbone_identity("prm") == "prm"
