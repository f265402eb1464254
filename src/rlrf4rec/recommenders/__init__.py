"""Knowledge-augmented rerankers: DLCM, PRM, SetRank, MIR, SASRec and GRU4Rec behind one interface.

`fit` trains one on candidate lists and returns a `FittedRecommender`, which scores lists. The names
are imported on first use, because they need torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlrf4rec.recommenders.base import Reranker
    from rlrf4rec.recommenders.fitted import FittedRecommender
    from rlrf4rec.recommenders.inputs import ListInputs
    from rlrf4rec.recommenders.registry import backbone_identity, resolve_backbone
    from rlrf4rec.recommenders.training import fit
    from rlrf4rec.recommenders.trying import try_backbones

__all__ = [
    "FittedRecommender",
    "ListInputs",
    "Reranker",
    "backbone_identity",
    "fit",
    "resolve_backbone",
    "try_backbones",
]

_HOMES = {
    "FittedRecommender": "fitted",
    "ListInputs": "inputs",
    "Reranker": "base",
    "backbone_identity": "registry",
    "fit": "training",
    "resolve_backbone": "registry",
    "try_backbones": "trying",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
