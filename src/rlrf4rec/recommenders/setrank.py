"""SetRank, permutation-invariant ranking (Pang et al., SIGIR 2020, arXiv 1912.05891)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders.attention import AttentionBlock
from rlrf4rec.recommenders.base import Reranker
from rlrf4rec.recommenders.features import ReadItems, Sizes


class SetRank(Reranker):
    """Induced multi-head self-attention blocks (IMSAB): no places, any order gives equal scores.

    ``IMSAB(X) = MAB(X, MAB(I, X))`` with ``M`` trained points ``I`` (equation 9): the points sum
    up the list, then each candidate reads the summary.
    """

    reads_order = False

    def __init__(self, config: RecommenderConfig, knowledge: KnowledgeConfig, sizes: Sizes) -> None:
        super().__init__(config, knowledge, sizes)
        self.blocks = nn.ModuleList(InducedBlock(config) for _ in range(config.n_blocks))
        self.norm = nn.LayerNorm(config.hidden_dim)
        self.value = nn.Linear(config.hidden_dim, 1, bias=False)
        nn.init.zeros_(self.value.weight)

    def compare(self, features: Tensor, history: ReadItems | None = None) -> Tensor:
        """``[b, l, c]`` in any order, to ``[b, l]``."""
        for block in self.blocks:
            features = block(features)
        change: Tensor = self.value(self.norm(features)).squeeze(-1)
        return change


class InducedBlock(nn.Module):
    """One IMSAB."""

    def __init__(self, config: RecommenderConfig) -> None:
        super().__init__()
        hidden = config.hidden_dim
        self.points = nn.Parameter(torch.empty(config.n_induced, hidden))
        nn.init.xavier_uniform_(self.points)
        self.summarise = AttentionBlock(hidden, config.n_heads, config.dropout)
        self.read = AttentionBlock(hidden, config.n_heads, config.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """``[b, l, c]`` to ``[b, l, c]``."""
        points = self.points.expand(len(features), -1, -1)
        result: Tensor = self.read(features, self.summarise(points, features))
        return result
