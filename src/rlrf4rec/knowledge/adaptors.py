"""Knowledge adaptors: from frozen text vectors into the recommender's space.

Shapes: ``n`` rows of text vectors, ``k`` their dimension as they come in, ``e`` the recommender's
embedding dimension. An adaptor is told the *kind* of a text (``user`` or ``item``), because KAR's
adaptor keeps some of its experts to one kind and shares the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from rlrf4rec.config import KnowledgeConfig

TextKind = Literal["user", "item"]


class KnowledgeAdaptor(nn.Module, ABC):
    """What every adaptor does."""

    @abstractmethod
    def forward(self, vectors: Tensor, kind: TextKind) -> Tensor:
        """``[..., k]`` text vectors of one kind to ``[..., e]``."""


class MLPAdaptor(KnowledgeAdaptor):
    """One two-layer perceptron for each kind of text."""

    def __init__(self, kinds: Sequence[TextKind], in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(
            {
                kind: nn.Sequential(
                    nn.Linear(in_dim, out_dim), nn.GELU(), nn.Linear(out_dim, out_dim)
                )
                for kind in kinds
            }
        )

    def forward(self, vectors: Tensor, kind: TextKind) -> Tensor:
        """``[..., k]`` to ``[..., e]``."""
        adapted: Tensor = self.networks[kind](vectors)
        return adapted


class HybridExpertAdaptor(KnowledgeAdaptor):
    """KAR's hybrid-expert adaptor (arXiv 2306.10933, section 3.3).

    Each kind of text is read by experts of its own and by experts shared between the kinds; a gate
    for each kind mixes them: ``sum_j softmax(G x)_j E_j(x)``. An expert is a two-layer perceptron.

    Args:
        kinds: the kinds of text there are.
        in_dim: ``k``.
        out_dim: ``e``.
        shared_experts: experts that read every kind (KAR: 2).
        own_experts: experts that read one kind, for each kind (KAR: 5).
    """

    def __init__(
        self,
        kinds: Sequence[TextKind],
        in_dim: int,
        out_dim: int,
        shared_experts: int,
        own_experts: int,
    ) -> None:
        super().__init__()
        self.shared = _Experts(shared_experts, in_dim, out_dim)
        self.own = nn.ModuleDict({kind: _Experts(own_experts, in_dim, out_dim) for kind in kinds})
        self.gates = nn.ModuleDict(
            {kind: nn.Linear(in_dim, shared_experts + own_experts) for kind in kinds}
        )

    def forward(self, vectors: Tensor, kind: TextKind) -> Tensor:
        """``[..., k]`` to ``[..., e]``."""
        weights = self.gates[kind](vectors).softmax(-1)
        shared, own = weights.split([self.shared.n_experts, self.own[kind].n_experts], dim=-1)
        mixed: Tensor = self.shared(vectors, shared) + self.own[kind](vectors, own)
        return mixed


class _Experts(nn.Module):
    """Several two-layer perceptrons over the same input, weighted and summed up.

    Computed as two matrix products: ``sum_j w_j (h_j W_j)`` is the product of all ``w_j h_j``, one
    after another, with all ``W_j``, one below another, so that no expert's output is ever made.
    """

    def __init__(self, n_experts: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.n_experts = n_experts
        # Half the width that an expert puts out: seven experts of full width cost as much time as
        # the rest of the recommender.
        self.width = max(out_dim // 2, 1)
        self.first = nn.Linear(in_dim, n_experts * self.width)
        self.second = nn.Parameter(torch.empty(n_experts, self.width, out_dim))
        nn.init.normal_(self.second, std=self.width**-0.5)

    def forward(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """``[..., k]`` and the experts' weights ``[..., experts]`` to ``[..., e]``."""
        hidden = nn.functional.gelu(self.first(vectors))
        hidden = hidden.view(*weights.shape, self.width) * weights.unsqueeze(-1)
        mixed: Tensor = hidden.flatten(-2) @ self.second.flatten(0, 1)
        return mixed


def build_adaptor(
    config: KnowledgeConfig, kinds: Sequence[TextKind], in_dim: int, out_dim: int
) -> KnowledgeAdaptor:
    """The adaptor that the settings name, for the given kinds of text."""
    if config.adaptor == "mlp":
        return MLPAdaptor(kinds, in_dim, out_dim)
    return HybridExpertAdaptor(kinds, in_dim, out_dim, config.shared_experts, config.own_experts)
