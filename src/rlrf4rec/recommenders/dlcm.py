"""DLCM, the deep listwise context model (Ai et al., SIGIR 2018, arXiv 1804.05936)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders.base import Reranker
from rlrf4rec.recommenders.features import ReadItems, Sizes

N_READINGS = 4
"""Readings of the local context that the attention compares a candidate with (the paper's k)."""


class DLCM(Reranker):
    """A GRU reads the list from its last candidate to its first; its last state is the context.

    The change of candidate ``i`` is ``v . (o_i tanh(W s + b))`` with the GRU's outputs ``o`` and
    its last state ``s`` (equation 5). Reading from the worst up leaves the top of the list freshest
    in the state (section 4.2).
    """

    reads_order = True

    def __init__(self, config: RecommenderConfig, knowledge: KnowledgeConfig, sizes: Sizes) -> None:
        super().__init__(config, knowledge, sizes)
        hidden = config.hidden_dim
        self.reader = nn.GRU(hidden, hidden, batch_first=True)
        self.context = nn.Linear(hidden, hidden * N_READINGS)
        self.dropout = nn.Dropout(config.dropout)
        self.value = nn.Linear(N_READINGS, 1, bias=False)
        nn.init.zeros_(self.value.weight)

    def compare(self, features: Tensor, history: ReadItems | None = None) -> Tensor:
        """``[b, l, c]`` best first, to ``[b, l]``."""
        upwards, state = self.reader(features.flip(1))
        outputs = self.dropout(upwards.flip(1))
        context = torch.tanh(self.context(state[-1])).view(len(features), -1, N_READINGS)
        change: Tensor = self.value(outputs @ context).squeeze(-1)
        return change
