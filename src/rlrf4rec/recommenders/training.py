"""Training a recommender on candidate lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.errors import DataError
from rlrf4rec.recommenders.base import Recommender
from rlrf4rec.recommenders.epochs import make_optimizer, run_epochs
from rlrf4rec.recommenders.features import Prepared, Sizes
from rlrf4rec.recommenders.fitted import Epoch, FittedRecommender
from rlrf4rec.recommenders.inputs import ListInputs, check_lists, check_rows
from rlrf4rec.recommenders.item_odds import item_log_odds
from rlrf4rec.recommenders.registry import resolve_backbone
from rlrf4rec.records import PADDING, BoolArray, CandidateLists, IntArray

VALIDATION_TEXTS = 3
"""Alternatives of a user that the validation loss is averaged over: the first ones. One is noisy,
all ten would cost more than the training epoch."""

SILENCE = 0.2
"""Share of training lists that are ranked without their user's text, so that a user who has none is
ranked well by ID alone."""


def list_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Negative mean log-likelihood of the positives under each list's softmax.

    ``-1/|P| sum_{j in P} log softmax(scores)_j``, averaged over lists; its negative is the smooth
    reward.

    Args:
        scores: ``[..., l]``.
        labels: ``[..., l]``, 1 for a positive; at least one in every list.
    """
    likelihood = (scores.log_softmax(-1) * labels).sum(-1) / labels.sum(-1)
    return -likelihood.mean()


def fit(
    config: RecommenderConfig,
    knowledge: KnowledgeConfig,
    backbone: str,
    inputs: ListInputs,
    lists: CandidateLists,
    knowledge_rows: IntArray,
    train: BoolArray,
    validation: BoolArray,
    *,
    seed: int,
    practice_rows: IntArray | None = None,
) -> FittedRecommender:
    """Train a knowledge-augmented reranker; the same arguments give the same recommender.

    In each epoch every user reads one of his alternative texts, drawn anew, so that the recommender
    learns what texts say and not whom they belong to. Lists without a positive or without a
    negative say nothing and are left out. Training stops when the validation lists' loss has not
    improved for `patience` epochs (not before `min_epochs`); the best epoch's weights are kept.

    Args:
        config: the recommender's settings.
        knowledge: how text is taken in; without text vectors in `inputs` it has no effect.
        backbone: a name for `resolve_backbone`.
        inputs: histories and text vectors.
        lists: ``n`` candidate lists.
        knowledge_rows: ``[n, a]``, rows of ``inputs.user_knowledge`` with the alternative texts of
            each list's user, the same in all lists of a user; -1: none.
        train: ``[n]``, lists to learn from.
        validation: ``[n]``, lists to stop by; none: all `max_epochs` are trained.
        seed: of initial weights, dropout, the order of lists and the choice of texts.
        practice_rows: ``[n, m]``, further texts of each list's user, as `knowledge_rows`, that are
            read in training epochs but are not what the recommender will be asked to rank with.

    Raises:
        ConfigError: unknown backbone.
        DataError: no list to learn from, or indices out of range.
    """
    n_items = inputs.n_items
    if inputs.item_knowledge is None:
        n_items = max(n_items, int(lists.items.max(initial=PADDING)) + 1)
    check_lists(lists, inputs, n_items)
    check_rows(knowledge_rows, lists, inputs)
    alternatives = knowledge_rows
    if practice_rows is not None:
        check_rows(practice_rows, lists, inputs)
        alternatives = np.concatenate([knowledge_rows, practice_rows], axis=1)
    positives = lists.labels.sum(1)
    telling = (positives > 0) & (positives < lists.labels.shape[1])
    train_rows, validation_rows = (np.flatnonzero(part & telling) for part in (train, validation))
    if not len(train_rows):
        raise DataError(
            "training lists with both a positive and a negative",
            found=f"none among {int(train.sum())} training lists",
            remedy="Lower data.positive_rating or use a larger log.",
        )
    sizes = Sizes(
        n_items,
        lists.items.shape[1],
        inputs.text_dim,
        inputs.item_knowledge is not None,
        inputs.user_knowledge is not None,
        inputs.history_items.shape[1],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = resolve_backbone(backbone)(config, knowledge, sizes)
        _learn_text_space(model, inputs, knowledge_rows[train_rows])
        _start_from_odds(model, lists.select(train_rows))
        history = _Training(
            config,
            model,
            inputs,
            lists,
            alternatives,
            knowledge_rows[:, :VALIDATION_TEXTS],
            train_rows,
            validation_rows,
            seed,
        ).run()
    return FittedRecommender(backbone, config, knowledge, model, history)


@dataclass(frozen=True)
class _Training:
    """One run of epochs over one model."""

    config: RecommenderConfig
    model: Recommender
    inputs: ListInputs
    lists: CandidateLists
    alternatives: IntArray
    validation_texts: IntArray
    train_rows: IntArray
    validation_rows: IntArray
    seed: int

    def run(self) -> tuple[Epoch, ...]:
        """Train; leave the best epoch's weights in the model; return the losses of each epoch."""
        optimizer = make_optimizer(self.model, self.config)
        prepared = self.model.features.prepare(self.inputs)
        return run_epochs(
            self.model,
            self.config,
            lambda epoch: self._train_epoch(prepared, optimizer, epoch),
            (lambda: self._validation_loss(prepared)) if len(self.validation_rows) else None,
        )

    def _train_epoch(
        self, prepared: Prepared, optimizer: torch.optim.Optimizer, epoch: int
    ) -> float:
        self.model.train()
        rng = np.random.default_rng([self.seed, epoch])
        chosen = rng.permutation(self.train_rows)
        if self.config.max_lists_per_user is not None:
            rank = _rank_within(self.lists.user[chosen])
            chosen = chosen[rank < self.config.max_lists_per_user]
        texts = self._draw_texts(rng, chosen)
        total = torch.zeros(())
        for users, items, labels, rows in self._batches(chosen, texts):
            loss = list_loss(self.model(prepared, users, items, rows).squeeze(1), labels)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.detach() * len(users)
        return float(total) / len(chosen)

    def _draw_texts(self, rng: np.random.Generator, chosen: IntArray) -> IntArray:
        """``[n, 1]``: one text a user, the same in all the user's lists but the silent ones."""
        rows = self.alternatives[chosen]
        present = rows >= 0
        # The texts that are there first, so that a column below their number is never "none".
        packed = np.take_along_axis(rows, np.argsort(~present, axis=1, kind="stable"), axis=1)
        draw = rng.random(self.inputs.n_users)[self.lists.user[chosen]]
        column = (draw * np.maximum(present.sum(1), 1)).astype(np.int64)
        texts = np.take_along_axis(packed, column[:, None], axis=1)
        texts[rng.random(len(texts)) < SILENCE] = PADDING
        return texts

    @torch.no_grad()
    def _validation_loss(self, prepared: Prepared) -> float:
        self.model.eval()
        texts = self.validation_texts[self.validation_rows]
        total = 0.0
        for users, items, labels, rows in self._batches(self.validation_rows, texts):
            loss = list_loss(self.model(prepared, users, items, rows), labels.unsqueeze(1))
            total += float(loss) * len(users)
        return total / len(self.validation_rows)

    def _batches(
        self, chosen: IntArray, texts: IntArray
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Users ``[b]``, items ``[b, l]``, labels ``[b, l]`` and text rows ``[b, s]``."""
        size = self.config.batch_size
        parts = (
            torch.from_numpy(self.lists.user[chosen]),
            torch.from_numpy(self.lists.items[chosen]),
            torch.from_numpy(self.lists.labels[chosen].astype(np.float32)),
            torch.from_numpy(texts),
        )
        yield from zip(*(torch.split(part, size) for part in parts), strict=True)


def _learn_text_space(model: Recommender, inputs: ListInputs, rows: IntArray) -> None:
    space = model.features.space
    if space is None:
        return
    user = None
    if "user" in model.features.kinds and inputs.user_knowledge is not None:
        read = np.unique(rows[rows >= 0])
        user = inputs.user_knowledge[torch.from_numpy(read)] if len(read) else None
    item = inputs.item_knowledge if "item" in model.features.kinds else None
    space.learn(item, user)


@torch.no_grad()
def _start_from_odds(model: Recommender, lists: CandidateLists) -> None:
    shown, positive = (
        np.bincount(items.reshape(-1), minlength=model.sizes.n_items).astype(np.float64)
        for items in (lists.items, lists.items[lists.labels > 0])
    )
    odds = item_log_odds(shown, positive)
    model.features.item_bias.weight.copy_(torch.from_numpy(odds).unsqueeze(1))


def _rank_within(groups: IntArray) -> IntArray:
    """0, 1, … for each element's place within its group, in the order given."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(ordered)])
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, lengths)
    return ranks
