"""Whether the recommenders that a run names can rank, before the LLM has written for hours."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.errors import ConfigError
from rlrf4rec.recommenders.features import Sizes
from rlrf4rec.recommenders.fitted import FittedRecommender
from rlrf4rec.recommenders.inputs import ListInputs
from rlrf4rec.recommenders.registry import resolve_backbone
from rlrf4rec.records import PADDING, CandidateLists, Histories


def try_backbones(
    names: Iterable[str], config: RecommenderConfig, knowledge: KnowledgeConfig
) -> None:
    """Let a tiny one of each rank two lists.

    Raises:
        ConfigError: as `resolve_backbone`, settings that a backbone cannot take, or a class of the
            user's own that cannot be made or does not score lists.
    """
    histories = Histories(np.zeros((2, 1), np.int64), np.ones((2, 1), np.float32), np.ones(2, int))
    items, rows = np.array([[0, 1, 2], [2, 1, 0]]), np.full(2, PADDING)
    inputs = ListInputs.from_numpy(histories, None, None, 3)
    lists = CandidateLists("uniform", np.arange(2), rows, rows, items, np.zeros_like(items))
    for name in names:
        backbone = resolve_backbone(name)
        try:
            with torch.random.fork_rng(devices=[]):
                model = backbone(config, knowledge, Sizes(3, 3, 0, False, False, 1)).eval()
                FittedRecommender(name, config, knowledge, model, ()).score(inputs, lists, rows)
        except (TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError) as error:
            raise ConfigError(
                f"a backbone that can be made and scores candidate lists at {name!r}",
                found=f"{type(error).__name__}: {error}",
                remedy="docs/how-to/add-a-reranker.md shows one.",
            ) from error
