"""SASRec, self-attentive sequential recommendation (Kang and McAuley, 2018, arXiv 1808.09781)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders.attention import require_heads
from rlrf4rec.recommenders.features import Sizes
from rlrf4rec.recommenders.sequential import SequentialRecommender


class SASRec(SequentialRecommender):
    """A causal transformer encoder over the read items and their learned places.

    As in the paper, items are read and ranked by one table (section III-D), and each layer
    normalises before it attends (III-B).
    """

    def __init__(self, config: RecommenderConfig, knowledge: KnowledgeConfig, sizes: Sizes) -> None:
        super().__init__(config, knowledge, sizes)
        dim = config.embedding_dim
        require_heads("embedding_dim", dim, config.n_heads)
        self.place = nn.Embedding(max(sizes.history_size, 1), dim)
        nn.init.normal_(self.place.weight, std=0.1)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                config.n_heads,
                config.hidden_dim,
                config.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.n_blocks)
        )
        self.norm = nn.LayerNorm(dim)

    def encode(self, read: Tensor) -> Tensor:
        """``[b, h, e]`` to ``[b, h, e]``."""
        length = read.shape[1]
        # A history longer than those of training: the places beyond share the last one.
        places = torch.arange(length).clamp_max(self.place.num_embeddings - 1)
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        hidden = read + self.place(places)
        for layer in self.layers:
            hidden = layer(hidden, src_mask=later)
        states: Tensor = self.norm(hidden)
        return states
