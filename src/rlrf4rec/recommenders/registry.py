"""Which class a backbone's name stands for."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import sys

from rlrf4rec.errors import ConfigError
from rlrf4rec.recommenders.base import Recommender
from rlrf4rec.recommenders.dlcm import DLCM
from rlrf4rec.recommenders.gru4rec import GRU4Rec
from rlrf4rec.recommenders.mir import MIR
from rlrf4rec.recommenders.prm import PRM
from rlrf4rec.recommenders.sasrec import SASRec
from rlrf4rec.recommenders.sequential import SequentialRecommender
from rlrf4rec.recommenders.setrank import SetRank

BACKBONES: dict[str, type[Recommender]] = {
    "dlcm": DLCM,
    "prm": PRM,
    "setrank": SetRank,
    "mir": MIR,
    "sasrec": SASRec,
    "gru4rec": GRU4Rec,
}


def resolve_backbone(name: str) -> type[Recommender]:
    """The class behind a name in `BACKBONES` or a ``package.module:Class`` of your own.

    Raises:
        ConfigError: unknown name, nothing at that path, or a class that is no `Recommender`.
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
    except Exception as error:  # a module of the user's own may fail in any way
        raise ConfigError(
            f"a class to import at {name!r}",
            found=f"{type(error).__name__}: {error}",
            remedy="Write package.module:Class and make sure that the package is installed or in "
            "a folder that PYTHONPATH names.",
        ) from error
    if not (isinstance(found, type) and issubclass(found, Recommender)):
        raise ConfigError(
            f"a subclass of {Recommender.__module__}.Recommender at {name!r}",
            found=repr(found),
            remedy="Derive your class from Reranker and implement compare().",
        )
    return found


def backbone_identity(name: str) -> str:
    """What a backbone's results depend on: its name, and the code of a class of your own.

    The modules that the class and its bases are written in count, whatever else they import.
    """
    if name in BACKBONES:
        return name
    digest = hashlib.sha256()
    modules = {base.__module__ for base in resolve_backbone(name).__mro__}
    for module in sorted(modules):
        if module.partition(".")[0] not in ("rlrf4rec", "torch", *sys.stdlib_module_names):
            with contextlib.suppress(OSError, TypeError):  # a module without source
                digest.update(inspect.getsource(sys.modules[module]).encode())
    return f"{name} {digest.hexdigest()[:16]}"


def resolve_sequential(name: str) -> type[SequentialRecommender]:
    """`resolve_backbone` for one that scores a catalogue.

    Raises:
        ConfigError: as `resolve_backbone`, or a backbone that only ranks lists.
    """
    found = resolve_backbone(name)
    if not issubclass(found, SequentialRecommender):
        raise ConfigError(
            "a backbone that scores the whole catalogue: sasrec, gru4rec or package.module:Class",
            found=f"{name!r}, which ranks candidate lists",
            remedy="Derive your class from SequentialRecommender and implement encode().",
        )
    return found
