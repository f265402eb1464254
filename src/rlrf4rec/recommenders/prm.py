"""PRM, the personalised re-ranking model (Pei et al., RecSys 2019, arXiv 1904.06813)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders.attention import AttentionBlock
from rlrf4rec.recommenders.base import Reranker
from rlrf4rec.recommenders.features import ReadItems, Sizes


class PRM(Reranker):
    """A transformer encoder over personalised candidates and their places in the first ranking.

    The paper's personalised vector comes from a pre-trained click model; here it is the user's
    part of each candidate's features, trained with the rest.
    """

    reads_order = True

    def __init__(self, config: RecommenderConfig, knowledge: KnowledgeConfig, sizes: Sizes) -> None:
        super().__init__(config, knowledge, sizes)
        hidden = config.hidden_dim
        self.place = nn.Embedding(sizes.list_size, hidden)
        nn.init.normal_(self.place.weight, std=0.1)
        self.blocks = nn.ModuleList(
            AttentionBlock(hidden, config.n_heads, config.dropout) for _ in range(config.n_blocks)
        )
        self.norm = nn.LayerNorm(hidden)
        self.value = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.value.weight)

    def compare(self, features: Tensor, history: ReadItems | None = None) -> Tensor:
        """``[b, l, c]`` best first, to ``[b, l]``."""
        # A list longer than those of training: the places beyond share the last one.
        places = torch.arange(features.shape[1]).clamp_max(self.sizes.list_size - 1)
        hidden = features + self.place(places)
        for block in self.blocks:
            hidden = block(hidden, hidden)
        change: Tensor = self.value(self.norm(hidden)).squeeze(-1)
        return change
