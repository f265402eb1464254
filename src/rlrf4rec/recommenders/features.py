"""What every backbone is given: one feature vector a candidate, and its score on its own.

Shapes: ``b`` lists in a batch, ``l`` candidates, ``h`` read items, ``s`` texts of the list's user,
``e`` embedding_dim, ``c`` hidden_dim, ``m`` match_dim, ``k`` a text in `TextSpace`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.knowledge.adaptors import TextKind, build_adaptor
from rlrf4rec.recommenders.inputs import ListInputs
from rlrf4rec.recommenders.knowledge_fusion import LearnedMatch, TextSpace

ID_STD = 0.05
"""Spread of untrained ID embeddings: small, so that an item that no training list holds adds next
to nothing of its own."""


@dataclass(frozen=True)
class Sizes:
    """What a recommender's tables are as large as.

    Attributes:
        n_items: items in the catalogue.
        list_size: candidates in a training list.
        text_dim: ``d``, or 0 without any text.
        has_item_text: whether items come with text vectors.
        has_user_text: whether users do.
        history_size: read items of the longest training history; 0 where no backbone asks.
    """

    n_items: int
    list_size: int
    text_dim: int
    has_item_text: bool
    has_user_text: bool
    history_size: int = 0


@dataclass(frozen=True)
class Prepared:
    """`ListInputs` after every step that is not trained: computed once for all batches.

    Attributes:
        history_items: ``[u, h]``, 0 where padded.
        history_mask: ``[u, h]``, true at a read item.
        history_ratings: ``[u, h]``, above or below the user's own mean; 0 where there is none.
        item_text: ``[i, k]`` or None.
        user_text: ``[r + 1, k]`` or None; the last row is zero, so that row -1 is "no text".
    """

    history_items: Tensor
    history_mask: Tensor
    history_ratings: Tensor
    item_text: Tensor | None
    user_text: Tensor | None


@dataclass(frozen=True)
class ReadItems:
    """What the users of ``b`` lists read, for a backbone that compares candidates with it.

    Attributes:
        items: ``[b, h, e]``, ID embeddings, oldest first; padded at the end.
        text: ``[b, h, c]``, adapted texts, or None.
        ratings: ``[b, h]``, as in `Prepared`.
        mask: ``[b, h]``, true at a read item.
    """

    items: Tensor
    text: Tensor | None
    ratings: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Texts:
    """Each text as the recommender takes it in: computed once a step, not once a candidate.

    Attributes:
        item: ``[j, c]``, adapted, or None; of the whole catalogue (``j`` is ``i``) or a part of it.
        user: ``[r, c]``, adapted, zero for "no text"; or None.
        item_match: ``[j, m]``, projected for the match, or None.
        user_match: ``[r, m]``, likewise, zero for "no text"; or None.
        places: ``[i]``, each item's row of `item` and `item_match`, -1 for an item that was not
            taken in; None: every item was, in the catalogue's order.
    """

    item: Tensor | None
    user: Tensor | None
    item_match: Tensor | None
    user_match: Tensor | None
    places: Tensor | None = None

    def of_items(self, table: Tensor, items: Tensor) -> Tensor:
        """Rows of `item` or `item_match` for items ``[...]``, ``[..., c]`` or ``[..., m]``.

        Raises:
            IndexError: an item that was not taken in.
        """
        return embedding(items if self.places is None else self.places[items], table)


def prepare_histories(items: Tensor, ratings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`Prepared.history_items`, `Prepared.history_mask` and `Prepared.history_ratings`.

    Args:
        items: ``[u, h]``, padded with -1.
        ratings: ``[u, h]``, NaN where there is none.
    """
    mask = items >= 0
    rated = mask & ~ratings.isnan()
    known = torch.where(rated, ratings, 0.0)
    mean = known.sum(1, keepdim=True) / rated.sum(1, keepdim=True).clamp_min(1)
    return items.clamp_min(0), mask, torch.where(rated, known - mean, 0.0)


class TextFeatures(nn.Module):
    """How any recommender takes text in: its space, adaptor and learned match."""

    item_bias: nn.Embedding
    """What an item brings for every user, ``[i, 1]``; `fit` starts it at the item's odds."""

    def _hear_texts(
        self, config: RecommenderConfig, knowledge: KnowledgeConfig, sizes: Sizes, width: int
    ) -> None:
        """Add the weights that read text, for features of ``width`` dimensions.

        Called after the ID weights are drawn, so that these are the same with and without text.
        """
        dim = config.embedding_dim
        heard: dict[TextKind, bool] = {
            "user": sizes.has_user_text and knowledge.user,
            "item": sizes.has_item_text and knowledge.item,
        }
        self.kinds = tuple(kind for kind, is_heard in heard.items() if is_heard)
        self.space = TextSpace(sizes.text_dim) if self.kinds else None
        text_dim = 0 if self.space is None else self.space.out_dim
        self.adaptor = build_adaptor(knowledge, self.kinds, text_dim, dim) if self.kinds else None
        joining: dict[str, nn.Linear] = {
            kind: nn.Linear(dim, width, bias=False) for kind in self.kinds
        }
        for joined in joining.values():
            # From zero: before text has taught anything, items are ranked as by IDs alone.
            nn.init.zeros_(joined.weight)
        self.from_text = nn.ModuleDict(joining)
        match_dim = min(knowledge.match_dim, text_dim) if len(self.kinds) == 2 else 0
        self.match = LearnedMatch(text_dim, match_dim) if match_dim else None

    def text_parameters(self) -> list[nn.Parameter]:
        """The weights that read text."""
        parts = (self.adaptor, self.from_text, self.match)
        return [weight for part in parts if part is not None for weight in part.parameters()]

    def prepare(self, inputs: ListInputs) -> Prepared:
        """Everything about the inputs that training does not change."""
        item_text = user_text = None
        if self.space is not None and "item" in self.kinds and inputs.item_knowledge is not None:
            item_text = self.space.items(inputs.item_knowledge)
        if self.space is not None and "user" in self.kinds and inputs.user_knowledge is not None:
            silent = torch.zeros(1, self.space.out_dim)
            user_text = torch.cat([self.space.users(inputs.user_knowledge), silent])
        histories = prepare_histories(inputs.history_items, inputs.history_ratings)
        return Prepared(*histories, item_text, user_text)

    def read_texts(self, prepared: Prepared, rows: Tensor, items: Tensor | None = None) -> Texts:
        """Take in the catalogue's texts and the given users' texts.

        Args:
            prepared: from `prepare`.
            rows: ``[r]`` user texts; -1: none.
            items: ``[...]``, the only ones that will be asked for; None: the whole catalogue.
        """
        item = user = item_match = user_match = places = None
        item_text = prepared.item_text
        if item_text is not None and items is not None:
            taken = torch.unique(items)
            places = torch.full((len(item_text),), -1)
            places[taken] = torch.arange(len(taken))
            item_text = item_text[taken]
        if self.adaptor is not None and item_text is not None:
            item = self.from_text["item"](self.adaptor(item_text, "item"))
        if self.adaptor is not None and prepared.user_text is not None:
            text = prepared.user_text[rows]
            adapted = self.from_text["user"](self.adaptor(text, "user"))
            user = torch.where((rows >= 0).unsqueeze(-1), adapted, 0.0)
            if self.match is not None and item_text is not None:
                item_match = self.match.item(item_text)
                user_match = self.match.user(text)
        return Texts(item, user, item_match, user_match, places)


class CandidateFeatures(TextFeatures):
    """ID embedding, target attention over the reading history, text and its match."""

    def __init__(self, config: RecommenderConfig, knowledge: KnowledgeConfig, sizes: Sizes) -> None:
        super().__init__()
        dim, hidden = config.embedding_dim, config.hidden_dim
        self.candidate = nn.Embedding(sizes.n_items, dim)
        self.read = nn.Embedding(sizes.n_items, dim)
        for table in (self.candidate, self.read):
            nn.init.normal_(table.weight, std=ID_STD)
        self.item_bias = nn.Embedding(sizes.n_items, 1)
        nn.init.zeros_(self.item_bias.weight)
        self.query = nn.Linear(dim, dim, bias=False)
        self.rating_key = nn.Parameter(torch.zeros(dim))
        self.rating_weight = nn.Parameter(torch.tensor([0.3, 1.0]))
        self.from_ids = nn.Linear(3 * dim, hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.drop_read = config.dropout
        self.alone = nn.Linear(hidden, 1, bias=False)
        self._hear_texts(config, knowledge, sizes, hidden)
        match_dim = 0 if self.match is None else self.match.dim
        self.from_match = nn.Linear(match_dim, hidden, bias=False) if match_dim else None
        if self.from_match is not None:
            nn.init.zeros_(self.from_match.weight)

    def text_parameters(self) -> list[nn.Parameter]:
        """The weights that read text."""
        more = [] if self.from_match is None else list(self.from_match.parameters())
        return super().text_parameters() + more

    def forward(
        self, prepared: Prepared, texts: Texts, users: Tensor, items: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features ``[b, s, l, c]`` and the score of each candidate alone ``[b, s, l]``.

        What no text changes is computed once and not once a text; where no user text is heard at
        all, ``s`` is 1 in the result.

        Args:
            prepared: from `prepare`.
            texts: from `read_texts`.
            users: ``[b]``.
            items: ``[b, l]``.
            rows: ``[b, s]``, rows of ``texts.user``.
        """
        candidate = self.candidate(items)
        interest = self._interest(prepared, users, candidate)
        product = candidate * interest
        hidden = self.from_ids(torch.cat([candidate, interest, product], dim=-1))
        score = (self.item_bias(items).squeeze(-1) + product.sum(-1)).unsqueeze(1)
        if texts.item is not None:
            hidden = hidden + texts.of_items(texts.item, items)
        hidden = hidden.unsqueeze(1)
        if texts.user is not None:
            hidden = hidden + texts.user[rows].unsqueeze(2)
        if (
            self.match is not None
            and self.from_match is not None
            and texts.item_match is not None
            and texts.user_match is not None
        ):
            described = texts.of_items(texts.item_match, items)
            match = texts.user_match[rows].unsqueeze(2) * described.unsqueeze(1)
            hidden = hidden + self.from_match(match)
            score = score + self.match.score(match)
        hidden = self.dropout(gelu(hidden))
        return hidden, score + self.alone(hidden).squeeze(-1)

    def read_items(self, prepared: Prepared, texts: Texts, users: Tensor) -> ReadItems:
        """The reading histories of users ``[b]``; in training, some are masked."""
        items = prepared.history_items[users]
        return ReadItems(
            self.read(items),
            None if texts.item is None else texts.of_items(texts.item, items),
            prepared.history_ratings[users],
            self._kept(prepared.history_mask[users]),
        )

    def _kept(self, mask: Tensor) -> Tensor:
        # Whole read items are dropped: a shorter history is one that could have been.
        return mask & (torch.rand(mask.shape) >= self.drop_read) if self.training else mask

    def _interest(self, prepared: Prepared, users: Tensor, candidate: Tensor) -> Tensor:
        """Target attention: what the user read, weighted by its likeness to each candidate.

        Ratings enter twice: they turn the key, and they scale the value, so that a read item the
        user disliked speaks against what resembles it.
        """
        ratings = prepared.history_ratings[users].unsqueeze(-1)
        mask = self._kept(prepared.history_mask[users].unsqueeze(1))
        read = self.read(prepared.history_items[users])
        keys = read + ratings * self.rating_key
        values = read * (self.rating_weight[0] + self.rating_weight[1] * ratings)
        likeness = self.query(candidate) @ keys.transpose(1, 2) / read.shape[-1] ** 0.5
        # Not -inf: a user who has read nothing would get NaN instead of no interest.
        attention = likeness.masked_fill(~mask, -1e9).softmax(-1) * mask
        interest: Tensor = attention @ values
        return interest
