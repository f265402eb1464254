"""Training a recommender on candidate lists: by IDs alone, then what text adds to them.

Trained together, IDs and texts spoil each other: a text names its user, and the users of training
are learned by heart before their IDs have said what they can. So the IDs learn first, until the
validation loss rests; then they are frozen, and the weights that read text learn what is left. They
begin at zero, where every list is ranked as by IDs alone, so a text that says nothing costs nothing
(ours; docs/concepts/evidence.md, lab book, 35).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.errors import ConfigError, DataError
from rlrf4rec.recommenders.base import Recommender
from rlrf4rec.recommenders.epochs import make_optimizer, make_text_optimizer, run_epochs
from rlrf4rec.recommenders.features import Prepared, Sizes
from rlrf4rec.recommenders.fitted import FittedRecommender, Losses
from rlrf4rec.recommenders.inputs import ListInputs, check_lists, check_rows
from rlrf4rec.recommenders.item_odds import starting_odds
from rlrf4rec.recommenders.list_loss import list_loss
from rlrf4rec.recommenders.registry import resolve_backbone
from rlrf4rec.records import PADDING, BoolArray, CandidateLists, IntArray

VALIDATION_TEXTS = 3
"""Alternatives of a user that the validation loss is averaged over: the first ones. One is noisy,
all ten would cost more than the training epoch."""

SILENCE = 0.2
"""Share of training lists that are ranked without their user's text, so that a user who has none is
ranked well by IDs and the items' texts."""


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
    base: FittedRecommender | None = None,
) -> FittedRecommender:
    """Train a knowledge-augmented reranker; the same arguments give the same recommender.

    First by IDs alone; then, if there is text, what text adds, with all that was learned frozen. In
    each epoch of the latter every user reads one of his alternative texts, drawn anew, so that the
    recommender learns what texts say and not whom they belong to. Lists without a positive or
    without a negative say nothing and are left out. The validation lists are looked at
    `validations_per_epoch` times an epoch; training stops when their loss has not improved for
    `patience` epochs (by IDs alone not before `min_epochs`), and the best weights are kept.

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
        base: what the same call without any text in `inputs` returned, which this one would train
            first; several systems can share it.

    Raises:
        ConfigError: unknown backbone, or a base of other settings.
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
    train_rows, validation_rows = _telling_rows(lists, train, validation)
    sizes = Sizes(n_items, lists.items.shape[1], 0, False, False, inputs.history_items.shape[1])
    training = _Training(config, inputs, lists, train_rows, validation_rows, seed)
    if base is None:
        base = FittedRecommender(
            backbone, config, knowledge, *_train_ids(training, backbone, knowledge, sizes)
        )
    elif (base.backbone, base.config, base.model.sizes) != (backbone, config, sizes):
        raise ConfigError(
            "a base by IDs alone of the same backbone, settings and catalogue",
            found=f"{base.backbone} with {base.config!r} and {base.model.sizes}",
            remedy="Train it by the same call without text vectors, or pass no base.",
        )
    if not inputs.text_dim:
        return base
    model, losses = _train_text(training, base, knowledge, knowledge_rows, alternatives)
    return FittedRecommender(backbone, config, knowledge, model, base.history + losses)


def _telling_rows(
    lists: CandidateLists, train: BoolArray, validation: BoolArray
) -> tuple[IntArray, IntArray]:
    """The rows of training and of validation lists that hold a positive and a negative."""
    positives = lists.labels.sum(1)
    telling = (positives > 0) & (positives < lists.labels.shape[1])
    train_rows, validation_rows = (np.flatnonzero(part & telling) for part in (train, validation))
    if not len(train_rows):
        raise DataError(
            "training lists with both a positive and a negative",
            found=f"none among {int(train.sum())} training lists",
            remedy="Lower data.positive_rating or use a larger log.",
        )
    return train_rows, validation_rows


def _train_ids(
    training: _Training, backbone: str, knowledge: KnowledgeConfig, sizes: Sizes
) -> tuple[Recommender, tuple[Losses, ...]]:
    """A recommender without text, trained, and its losses."""
    silent = np.full((len(training.lists), 1), PADDING)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        model = resolve_backbone(backbone)(training.config, knowledge, sizes)
        odds = starting_odds(training.lists.select(training.train_rows), sizes.n_items)
        with torch.no_grad():
            model.features.item_bias.weight.copy_(torch.from_numpy(odds).unsqueeze(1))
        optimizer = make_optimizer(model, training.config)
        return model, training.run(model, optimizer, silent, silent, from_base=False)


def _train_text(
    training: _Training,
    base: FittedRecommender,
    knowledge: KnowledgeConfig,
    knowledge_rows: IntArray,
    alternatives: IntArray,
) -> tuple[Recommender, tuple[Losses, ...]]:
    """The base with what text adds, and the losses of that training."""
    config, inputs = training.config, training.inputs
    sizes = replace(
        base.model.sizes,
        text_dim=inputs.text_dim,
        has_item_text=inputs.item_knowledge is not None,
        has_user_text=inputs.user_knowledge is not None,
    )
    losses: tuple[Losses, ...] = ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        model = resolve_backbone(base.backbone)(config, knowledge, sizes)
        model.load_state_dict(base.model.state_dict(), strict=False)
        _learn_text_space(model, inputs, knowledge_rows[training.train_rows])
        if model.features.text_parameters():
            validation_texts = knowledge_rows[:, :VALIDATION_TEXTS]
            optimizer = make_text_optimizer(model, config)
            losses = training.run(model, optimizer, alternatives, validation_texts, from_base=True)
    # Frozen weights take other ways through some layers, which would change a score's last bits.
    model.requires_grad_(True)
    return model.eval(), losses


@dataclass(frozen=True)
class _Training:
    """Lists to learn from and to stop by, and epochs over them."""

    config: RecommenderConfig
    inputs: ListInputs
    lists: CandidateLists
    train_rows: IntArray
    validation_rows: IntArray
    seed: int

    def run(
        self,
        model: Recommender,
        optimizer: torch.optim.Optimizer,
        alternatives: IntArray,
        validation_texts: IntArray,
        *,
        from_base: bool,
    ) -> tuple[Losses, ...]:
        """Train; leave the best weights in the model; return the losses of each part of an epoch.

        Args:
            model: what is trained.
            optimizer: of its weights.
            alternatives: ``[n, a]``, the texts of each list's user that training reads.
            validation_texts: ``[n, v]``, those that the validation loss is averaged over.
            from_base: see `run_epochs`.
        """
        prepared = model.features.prepare(self.inputs)
        n_batches = -(-len(self._epoch_rows(np.random.default_rng(0))) // self.config.batch_size)
        parts = min(self.config.validations_per_epoch, n_batches)
        # The second training draws another order than the first did.
        stream = [self.seed, int(from_base)]

        def train_part(number: int) -> float:
            epoch, part = divmod(number, parts)
            rng = np.random.default_rng([*stream, epoch])
            chosen = self._epoch_rows(rng)
            texts = self._draw_texts(rng, chosen, alternatives[chosen])
            size = self.config.batch_size
            first, last = (share * n_batches // parts * size for share in (part, part + 1))
            return self._train_on(model, optimizer, prepared, chosen[first:last], texts[first:last])

        return run_epochs(
            model,
            self.config,
            train_part,
            (lambda: self._validation_loss(model, prepared, validation_texts))
            if len(self.validation_rows)
            else None,
            parts=parts,
            from_base=from_base,
        )

    def _epoch_rows(self, rng: np.random.Generator) -> IntArray:
        """An epoch's lists, in its order."""
        chosen = rng.permutation(self.train_rows)
        limit = self.config.max_lists_per_user
        return chosen if limit is None else chosen[_rank_within(self.lists.user[chosen]) < limit]

    def _train_on(
        self,
        model: Recommender,
        optimizer: torch.optim.Optimizer,
        prepared: Prepared,
        chosen: IntArray,
        texts: IntArray,
    ) -> float:
        model.train()
        total = torch.zeros(())
        for users, items, labels, rows in self._batches(chosen, texts):
            loss = list_loss(model(prepared, users, items, rows).squeeze(1), labels)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.detach() * len(users)
        return float(total) / len(chosen)

    def _draw_texts(self, rng: np.random.Generator, chosen: IntArray, rows: IntArray) -> IntArray:
        """``[n, 1]``: one of ``rows [n, a]``, the same in all of a user's lists but the silent."""
        present = rows >= 0
        # The texts that are there first, so that a column below their number is never "none".
        packed = np.take_along_axis(rows, np.argsort(~present, axis=1, kind="stable"), axis=1)
        draw = rng.random(self.inputs.n_users)[self.lists.user[chosen]]
        column = (draw * np.maximum(present.sum(1), 1)).astype(np.int64)
        texts = np.take_along_axis(packed, column[:, None], axis=1)
        texts[rng.random(len(texts)) < SILENCE] = PADDING
        return texts

    @torch.no_grad()
    def _validation_loss(self, model: Recommender, prepared: Prepared, texts: IntArray) -> float:
        model.eval()
        total = 0.0
        of_rows = texts[self.validation_rows]
        for users, items, labels, rows in self._batches(self.validation_rows, of_rows):
            loss = list_loss(model(prepared, users, items, rows), labels.unsqueeze(1))
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


def _rank_within(groups: IntArray) -> IntArray:
    """0, 1, … for each element's place within its group, in the order given."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(ordered)])
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, lengths)
    return ranks
