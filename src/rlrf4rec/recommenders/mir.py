"""MIR, multi-level interaction reranking (Xi et al., SIGIR 2022, arXiv 2204.09370)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders.attention import AttentionBlock
from rlrf4rec.recommenders.base import Reranker
from rlrf4rec.recommenders.features import ReadItems, Sizes


class MIR(Reranker):
    """Candidates are a set, the history is a list, and each is read in the light of the other.

    Three interactions, as in the paper: among the candidates (self-attention), along the history
    (a GRU, as in KAR's code), and between the two (`SetToList`). The candidates' order is not
    read, that of the history is. The paper's decay of a read item with its age is left out, as in
    KAR's code: reading histories are short.
    """

    reads_order = False
    reads_history = True

    def __init__(self, config: RecommenderConfig, knowledge: KnowledgeConfig, sizes: Sizes) -> None:
        super().__init__(config, knowledge, sizes)
        hidden = config.hidden_dim
        self.from_read = nn.Linear(config.embedding_dim, hidden)
        self.rating = nn.Parameter(torch.zeros(hidden))
        self.along = nn.GRU(hidden, hidden, batch_first=True)
        self.among = nn.ModuleList(
            AttentionBlock(hidden, config.n_heads, config.dropout) for _ in range(config.n_blocks)
        )
        self.between = SetToList(hidden, config.n_heads)
        self.join = nn.Sequential(
            nn.Linear(3 * hidden, hidden),
            nn.GELU(),
            nn.LayerNorm(hidden),
            nn.Dropout(config.dropout),
        )
        self.value = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.value.weight)

    def compare(self, features: Tensor, history: ReadItems | None = None) -> Tensor:
        """``[b, l, c]`` in any order and the list's history, to ``[b, l]``.

        Raises:
            ValueError: no history.
        """
        if history is None:
            raise ValueError("MIR compares candidates with what was read: pass a history")
        candidates = features
        for block in self.among:
            candidates = block(candidates, candidates)
        read = self._read(history)
        from_set, from_list = self.between(candidates, read, history.mask)
        joined = self.join(torch.cat([candidates, from_set, from_list], dim=-1))
        change: Tensor = self.value(joined).squeeze(-1)
        return change

    def _read(self, history: ReadItems) -> Tensor:
        """``[b, h, c]``: each read item, and what was read up to it."""
        read = self.from_read(history.items) + history.ratings.unsqueeze(-1) * self.rating
        if history.text is not None:
            read = read + history.text
        # Padding comes last, so that no state of a read item has seen any of it.
        states, _ = self.along(read)
        result: Tensor = read + states
        return result


class SetToList(nn.Module):
    """The paper's SLAttention: set and list attend to themselves, led by how they fit together.

    With candidates ``V``, read items ``Q`` and their affinity ``C = tanh(Q W V' + feature level)``:

    - each candidate's view of the set, ``softmax(tanh(S + L C)) V``,
    - each candidate's view of the list, ``softmax(tanh(L + S C')) Q``,

    where ``S = V A V'`` and ``L = V B Q'``. The feature level compares each field of a read item
    with each field of a candidate by one bilinear form for all pairs of fields, and weighs the
    pairs; fields are equal slices of the feature vectors, which hold IDs and texts already joined.

    The published code has trained weights for each place in the list where ``S`` and ``L`` have
    the candidate itself: scores then follow the order in which a set happens to come. Here any
    order gives equal scores, and lists may be of any length.

    Shapes: ``b`` lists, ``l`` candidates, ``h`` read items, ``f`` fields, ``w`` a field's width.
    """

    def __init__(self, dim: int, n_fields: int) -> None:
        super().__init__()
        self.n_fields, self.scale = n_fields, dim**-0.5
        self.item_level = nn.Linear(dim, dim, bias=False)
        self.feature_level = nn.Linear(dim // n_fields, dim // n_fields, bias=False)
        self.pairs = nn.Parameter(torch.full((n_fields, n_fields), 1 / n_fields))
        self.within_set = nn.Linear(dim, dim, bias=False)
        self.within_list = nn.Linear(dim, dim, bias=False)

    def forward(self, candidates: Tensor, read: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Views of the set and of the list, ``[b, l, c]`` each; of an empty list: zero.

        Args:
            candidates: ``[b, l, c]``.
            read: ``[b, h, c]``.
            mask: ``[b, h]``, true at a read item.
        """
        affinity = self._item_affinity(candidates, read) + self._feature_affinity(candidates, read)
        affinity = torch.tanh(affinity) * mask.unsqueeze(-1)
        own = self.within_set(candidates) @ candidates.transpose(1, 2) * self.scale
        other = self.within_list(candidates) @ read.transpose(1, 2) * self.scale
        other = other * mask.unsqueeze(1)
        to_set = torch.tanh(own + other @ affinity).softmax(-1)
        led = torch.tanh(other + own @ affinity.transpose(1, 2))
        # Not -inf: a user who has read nothing would get NaN instead of zero.
        to_list = led.masked_fill(~mask.unsqueeze(1), -1e9).softmax(-1) * mask.unsqueeze(1)
        return to_set @ candidates, to_list @ read

    def _item_affinity(self, candidates: Tensor, read: Tensor) -> Tensor:
        """``[b, h, l]``."""
        asked: Tensor = self.item_level(read)
        affinity: Tensor = asked @ candidates.transpose(1, 2) * self.scale
        return affinity

    def _feature_affinity(self, candidates: Tensor, read: Tensor) -> Tensor:
        """``[b, h, l]``: pairs of fields compared, then weighed."""
        asked: Tensor = self.feature_level(self._fields(read)).flatten(2)
        # Weighing the candidates' fields first spares a tensor of [b, h, l, f, f].
        weighed = torch.einsum("pq,blqw->blpw", self.pairs, self._fields(candidates)).flatten(2)
        affinity: Tensor = asked @ weighed.transpose(1, 2) * self.scale
        return affinity

    def _fields(self, vectors: Tensor) -> Tensor:
        """``[b, n, c]`` to ``[b, n, f, w]``."""
        return vectors.view(*vectors.shape[:2], self.n_fields, -1)
