"""Which class a backbone's name stands for."""

from __future__ import annotations

import importlib

from rlrf4rec.errors import ConfigError
from rlrf4rec.recommenders.base import Reranker
from rlrf4rec.recommenders.dlcm import DLCM
from rlrf4rec.recommenders.mir import MIR
from rlrf4rec.recommenders.prm import PRM
from rlrf4rec.recommenders.setrank import SetRank

BACKBONES: dict[str, type[Reranker]] = {
    "dlcm": DLCM,
    "prm": PRM,
    "setrank": SetRank,
    "mir": MIR,
}


def resolve_backbone(name: str) -> type[Reranker]:
    """The class behind a name in `BACKBONES` or a ``package.module:Class`` of your own.

    Raises:
        ConfigError: unknown name, nothing at that path, or a class that is no `Reranker`.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    module_name, sign, class_name = name.partition(":")
    if not sign:
        raise ConfigError(
            f"a backbone: {', '.join(BACKBONES)}, or package.module:Class",
            found=repr(name),
            remedy="Check the spelling.",
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"a class to import at {name!r}",
            found=str(error),
            remedy="Write package.module:Class and make sure that the package is installed.",
        ) from error
    if not (isinstance(found, type) and issubclass(found, Reranker)):
        raise ConfigError(
            f"a subclass of {Reranker.__module__}.Reranker at {name!r}",
            found=repr(found),
            remedy="Derive your class from Reranker and implement compare().",
        )
    return found
