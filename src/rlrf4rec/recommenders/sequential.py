"""Recommenders that read a history as a sequence and can score the whole catalogue.

A candidate's score is the inner product of a vector of the user and one of the item, so a catalogue
costs one matrix product. Knowledge enters both vectors: the item's adapted text is added to its ID
embedding (where it is read as well as where it is ranked), the user's adapted text to the state of
the sequence, and the learned match of the two texts is a further part of the inner product.

Shapes: as in `base`; ``i`` items, ``h`` read items, ``e`` embedding_dim, ``m`` match_dim.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.recommenders.base import Recommender
from rlrf4rec.recommenders.features import ID_STD, Prepared, Sizes, TextFeatures, Texts


class SequenceFeatures(TextFeatures):
    """One table of items, read and ranked by; and how a read item's rating is heard."""

    def __init__(self, config: RecommenderConfig, knowledge: KnowledgeConfig, sizes: Sizes) -> None:
        super().__init__()
        dim = config.embedding_dim
        self.item = nn.Embedding(sizes.n_items, dim)
        nn.init.normal_(self.item.weight, std=ID_STD)
        self.item_bias = nn.Embedding(sizes.n_items, 1)
        nn.init.zeros_(self.item_bias.weight)
        self.rating_key = nn.Parameter(torch.zeros(dim))
        self.rating_weight = nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(config.dropout)
        self._hear_texts(config, knowledge, sizes, dim)

    def items(self, texts: Texts, items: Tensor | None = None) -> Tensor:
        """The vectors of items ``[...]``, ``[..., e]``; None: of every item, ``[i, e]``."""
        vectors = self.item.weight if items is None else self.item(items)
        return vectors if texts.item is None else vectors + _rows(texts, texts.item, items)

    def read(self, texts: Texts, items: Tensor, ratings: Tensor) -> Tensor:
        """What an encoder is given of sequences ``[b, h]``: ``[b, h, e]``.

        A rating turns and scales the read item's vector, as in target attention: an item that the
        user disliked is not one that was liked.
        """
        # Scaled as in the paper (section III-A of SASRec's code): small embeddings would drown in
        # the places.
        read = self.items(texts, items) * self.item.embedding_dim**0.5
        rating = ratings.unsqueeze(-1)
        heard: Tensor = self.dropout(read * (1 + self.rating_weight * rating))
        return heard + rating * self.rating_key


class SequentialRecommender(Recommender):
    """Reads a history from its first item to its last; a backbone says how, in `encode`.

    Candidates of one list change nothing about each other: this is the recommender that reranks on
    its own, and the one that retrieves.
    """

    features: SequenceFeatures

    def __init__(self, config: RecommenderConfig, knowledge: KnowledgeConfig, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.features = SequenceFeatures(config, knowledge, sizes)

    @abstractmethod
    def encode(self, read: Tensor) -> Tensor:
        """``[b, h, e]``, oldest first, to the state after each item, ``[b, h, e]``.

        No state may depend on a later item: histories are padded at their end, and training asks
        every state for the item that came next.
        """

    def states(self, texts: Texts, items: Tensor, ratings: Tensor) -> Tensor:
        """The state after each item of sequences ``[b, h]``, ``[b, h, e]``."""
        return self.encode(self.features.read(texts, items, ratings))

    def rank(
        self, prepared: Prepared, texts: Texts, users: Tensor, items: Tensor, rows: Tensor
    ) -> Tensor:
        """Scores ``[b, s, l]``; see `Recommender.rank`."""
        # Each user is read once, however many lists there are.
        readers, local = torch.unique(users, return_inverse=True)
        wanted = self.user_vectors(texts, self.last_states(prepared, texts, readers)[local], rows)
        offered = self.item_vectors(texts, items)
        bias = self.features.item_bias(items).transpose(1, 2)
        scores: Tensor = wanted @ offered.transpose(1, 2) + bias
        return scores

    def rank_catalogue(
        self, prepared: Prepared, texts: Texts, users: Tensor, rows: Tensor
    ) -> Tensor:
        """Scores of every item for users ``[b]`` with texts ``rows [b, s]``: ``[b, s, i]``."""
        wanted = self.user_vectors(texts, self.last_states(prepared, texts, users), rows)
        return self.score_items(texts, wanted)

    def score_items(self, texts: Texts, wanted: Tensor) -> Tensor:
        """User vectors ``[..., e + m]`` to scores of every item, ``[..., i]``."""
        return wanted @ self.item_vectors(texts).T + self.features.item_bias.weight.squeeze(-1)

    def last_states(self, prepared: Prepared, texts: Texts, users: Tensor) -> Tensor:
        """The state after a user's last read item, ``[b, e]``; zero for one who has read nothing.

        Zero leaves the items' biases and the texts' match to rank by.
        """
        states = self.states(texts, prepared.history_items[users], prepared.history_ratings[users])
        lengths = prepared.history_mask[users].sum(1)
        last = states[torch.arange(len(users)), lengths.sub(1).clamp_min(0)]
        return torch.where((lengths > 0).unsqueeze(-1), last, 0.0)

    def user_vectors(self, texts: Texts, states: Tensor, rows: Tensor) -> Tensor:
        """States ``[b, e]`` and texts ``[b, s]`` to user vectors ``[b, s, e + m]``."""
        wanted = states.unsqueeze(1).expand(-1, rows.shape[1], -1)
        if texts.user is not None:
            wanted = wanted + texts.user[rows]
        match = self.features.match
        if match is None:
            return wanted
        if texts.user_match is None:
            return torch.cat([wanted, wanted.new_zeros(*wanted.shape[:2], match.dim)], dim=-1)
        weighted = texts.user_match[rows] * match.weight / match.dim**0.5
        return torch.cat([wanted, weighted], dim=-1)

    def item_vectors(self, texts: Texts, items: Tensor | None = None) -> Tensor:
        """Vectors of items ``[...]`` and their texts' projections for the match, ``[..., e + m]``.

        None: of every item, ``[i, e + m]``. A list of candidates touches its own items only.
        """
        vectors = self.features.items(texts, items)
        match = self.features.match
        if match is None:
            return vectors
        if texts.item_match is None:
            described = vectors.new_zeros(*vectors.shape[:-1], match.dim)
        else:
            described = _rows(texts, texts.item_match, items)
        return torch.cat([vectors, described], dim=-1)


def _rows(texts: Texts, table: Tensor, items: Tensor | None) -> Tensor:
    return table if items is None else texts.of_items(table, items)
