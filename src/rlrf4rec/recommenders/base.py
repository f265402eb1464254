"""The interface of every backbone: features in, one score a candidate out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders.features import (
    CandidateFeatures,
    Prepared,
    ReadItems,
    Sizes,
    TextFeatures,
    Texts,
)


class Recommender(nn.Module, ABC):
    """What `fit` trains: it takes text in through its `features` and scores candidates.

    Shapes: ``b`` lists, ``s`` texts of the list's user, ``l`` candidates, ``c`` hidden_dim.
    """

    features: TextFeatures
    sizes: Sizes

    reads_history: ClassVar[bool] = True
    """Whether the texts of what a list's user read are asked for, and not only the candidates'."""

    def forward(self, prepared: Prepared, users: Tensor, items: Tensor, rows: Tensor) -> Tensor:
        """Scores ``[b, s, l]``; higher ranks first.

        Args:
            prepared: from `CandidateFeatures.prepare`.
            users: ``[b]``.
            items: ``[b, l]``.
            rows: ``[b, s]``, each list's user texts; -1: none, ranked by ID alone.
        """
        wanted, local = torch.unique(rows, return_inverse=True)
        asked = [items] + ([prepared.history_items[users]] if self.reads_history else [])
        texts = self.features.read_texts(prepared, wanted, few(asked, self.sizes.n_items))
        return self.rank(prepared, texts, users, items, local)

    @abstractmethod
    def rank(
        self, prepared: Prepared, texts: Texts, users: Tensor, items: Tensor, rows: Tensor
    ) -> Tensor:
        """`forward` with the texts already taken in; ``rows`` point into ``texts.user``."""


def few(items: Sequence[Tensor], n_items: int) -> Tensor | None:
    """The items one after another, if they are few beside the catalogue; else None, for all of it.

    A step that takes in the texts of a catalogue of 200,000 for the 5,000 of its lists takes 25
    times as long. Near the catalogue's size there is little to save, and finding out which items
    stand in the lists costs something, too.
    """
    flat = torch.cat([some.flatten() for some in items])
    return flat if 2 * len(flat) < n_items else None


class Reranker(Recommender):
    """A candidate's score is its score alone plus what the other candidates change about it.

    A backbone says only the latter, in `compare`. It begins at (nearly) zero, so that training
    starts from a sound pointwise ranking; on a few hundred users that is worth more than a free
    hand for the backbone.

    Backbones that read a list in an order (DLCM, PRM) were published for lists that arrive as a
    first ranker sorted them. Candidate lists here come in random order, which tells nothing. So
    the candidates are first put in the order of their scores alone (no gradient goes through the
    order), and the result is scattered back: every backbone is indifferent to the incoming order.
    """

    features: CandidateFeatures

    reads_order: ClassVar[bool]
    """Whether `compare` wants the candidates best first."""

    reads_history: ClassVar[bool] = False
    """Whether `compare` is also given what the list's user read; otherwise ``history`` is None."""

    def __init__(self, config: RecommenderConfig, knowledge: KnowledgeConfig, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.features = CandidateFeatures(config, knowledge, sizes)

    @abstractmethod
    def compare(self, features: Tensor, history: ReadItems | None = None) -> Tensor:
        """``[b, l, c]`` candidates of one list, best first if `reads_order`, to ``[b, l]``."""

    def rank(
        self, prepared: Prepared, texts: Texts, users: Tensor, items: Tensor, rows: Tensor
    ) -> Tensor:
        """`forward` with the texts already taken in; ``rows`` point into ``texts.user``."""
        features, alone = self.features(prepared, texts, users, items, rows)
        shape = alone.shape
        history = None
        if self.reads_history:
            # Lists of several texts lie flat, text by text within a list; so does their history.
            owners = users.repeat_interleave(shape[1])
            history = self.features.read_items(prepared, texts, owners)
        scores = self._in_context(features.flatten(0, 1), alone.flatten(0, 1), history)
        return scores.view(shape).expand(-1, rows.shape[1], -1)

    def _in_context(self, features: Tensor, alone: Tensor, history: ReadItems | None) -> Tensor:
        if not self.reads_order:
            return alone + self.compare(features, history)
        order = alone.detach().argsort(dim=1, descending=True, stable=True)
        # Whole rows of one long table: `gather` looks up each number by itself, which takes longer.
        places = order + torch.arange(len(order)).unsqueeze(1) * order.shape[1]
        ranked = features.flatten(0, 1).index_select(0, places.flatten()).view_as(features)
        return alone.scatter_add(1, order, self.compare(ranked, history))
