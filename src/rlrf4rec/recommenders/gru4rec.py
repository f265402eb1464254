"""GRU4Rec, session-based recommendations with recurrent neural networks (Hidasi et al., ICLR 2016,
arXiv 1511.06939).
"""

from __future__ import annotations

from torch import Tensor, nn

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders.features import Sizes
from rlrf4rec.recommenders.sequential import SequentialRecommender


class GRU4Rec(SequentialRecommender):
    """A GRU over the read items; its state, brought to the items' space, ranks them.

    One GRU layer, as the paper found best (section 4). Items are read and ranked by one table, as
    its authors do in later versions.
    """

    def __init__(self, config: RecommenderConfig, knowledge: KnowledgeConfig, sizes: Sizes) -> None:
        super().__init__(config, knowledge, sizes)
        self.reader = nn.GRU(config.embedding_dim, config.hidden_dim, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.hidden_dim, config.embedding_dim)

    def encode(self, read: Tensor) -> Tensor:
        """``[b, h, e]`` to ``[b, h, e]``."""
        hidden, _ = self.reader(read)
        states: Tensor = self.out(self.dropout(hidden))
        return states
