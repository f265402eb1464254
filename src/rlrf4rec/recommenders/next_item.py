"""Training a sequential recommender on next items: the first stage.

Each state of a sequence is asked for the item that came next, by a softmax over the catalogue or,
in a large one, over the right item and some drawn ones. SASRec's own loss holds the next item
against one drawn item; the softmax ranks a catalogue clearly better (Klenitskiy and Vasilev, RecSys
2023, arXiv 2309.07602).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.errors import DataError
from rlrf4rec.recommenders.base import few
from rlrf4rec.recommenders.epochs import make_optimizer, run_epochs
from rlrf4rec.recommenders.features import Prepared, Sizes
from rlrf4rec.recommenders.fitted import FittedRecommender
from rlrf4rec.recommenders.inputs import ListInputs
from rlrf4rec.recommenders.registry import resolve_sequential
from rlrf4rec.recommenders.sequential import SequentialRecommender
from rlrf4rec.records import BoolArray, IntArray

VALIDATION_SEED = 0
"""Of the items drawn for the validation loss: the same ones in every epoch."""


def fit_next_item(
    config: RecommenderConfig,
    knowledge: KnowledgeConfig,
    backbone: str,
    sequences: ListInputs,
    train: BoolArray,
    validation: BoolArray,
    *,
    n_negatives: int,
    seed: int,
) -> FittedRecommender:
    """Train a sequential recommender to tell what came next; same arguments, same recommender.

    No user text is heard: it would have to be known for every sequence, and the first stage has to
    be ready before any is written.

    Args:
        config: the recommender's settings; ``batch_size`` counts sequences.
        knowledge: how item text is taken in, where `sequences` has some.
        backbone: ``sasrec``, ``gru4rec`` or a class path of your own `SequentialRecommender`.
        sequences: ``q`` sequences in place of the histories: each read but for its last item, which
            is only asked for.
        train: ``[q]``, sequences to learn from.
        validation: ``[q]``, sequences to stop by; none: all `max_epochs` are trained.
        n_negatives: items that the softmax holds against the next one, drawn uniformly for each
            batch; the whole catalogue where it has no more.
        seed: of initial weights, dropout, the order of sequences and the drawn items.

    Raises:
        ConfigError: a backbone that does not score a catalogue.
        DataError: no sequence of two items to learn from.
    """
    telling = (sequences.history_items >= 0).sum(1).numpy() > 1
    train_rows, validation_rows = (np.flatnonzero(part & telling) for part in (train, validation))
    if not len(train_rows):
        raise DataError(
            "training sequences of at least two items",
            found=f"none among {int(train.sum())}",
            remedy="Use a larger log.",
        )
    sizes = Sizes(
        sequences.n_items,
        0,
        0 if sequences.item_knowledge is None else sequences.text_dim,
        sequences.item_knowledge is not None,
        has_user_text=False,
        history_size=sequences.history_items.shape[1] - 1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = resolve_sequential(backbone)(config, knowledge, sizes)
        if model.features.space is not None:
            model.features.space.learn(sequences.item_knowledge, None)
        optimizer = make_optimizer(model, config)
        training = _NextItems(
            config, model, model.features.prepare(sequences), n_negatives, optimizer, seed
        )
        history = run_epochs(
            model,
            config,
            lambda epoch: training.train_epoch(train_rows, epoch),
            (lambda: training.validation_loss(validation_rows)) if len(validation_rows) else None,
        )
    return FittedRecommender(backbone, config, knowledge, model, history)


def sampled_cross_entropy(right: Tensor, wrong: Tensor, same: Tensor) -> Tensor:
    """Cross-entropy of the right item among some drawn ones.

    The draw is uniform, so that its correction (``-log q``) is one constant and falls out.

    Args:
        right: ``[t, 1]``, scores of the items that came next.
        wrong: ``[t, n]``, scores of the drawn ones.
        same: ``[t, n]``, true where the drawn item is the right one; it counts once.
    """
    scores = torch.cat([right, wrong.masked_fill(same, -torch.inf)], dim=1)
    return cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64))


@dataclass(frozen=True)
class _NextItems:
    """The loss of sequences, and epochs over it."""

    config: RecommenderConfig
    model: SequentialRecommender
    sequences: Prepared
    n_negatives: int
    optimizer: torch.optim.Optimizer
    seed: int

    def train_epoch(self, rows: IntArray, epoch: int) -> float:
        """One pass over the sequences in a new order; its mean loss."""
        self.model.train()
        rng = np.random.default_rng([self.seed, epoch])
        total, count = 0.0, 0
        for batch in self._batches(rng.permutation(rows)):
            loss, asked = self._loss(batch, rng)
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimizer.step()
            total, count = total + float(loss.detach()) * asked, count + asked
        return total / count

    @torch.no_grad()
    def validation_loss(self, rows: IntArray) -> float:
        """Mean loss of sequences that are not learned from."""
        self.model.eval()
        rng = np.random.default_rng([VALIDATION_SEED])
        parts = [self._loss(batch, rng) for batch in self._batches(rows)]
        return sum(float(loss) * asked for loss, asked in parts) / sum(n for _, n in parts)

    def _loss(self, rows: Tensor, rng: np.random.Generator) -> tuple[Tensor, int]:
        """Mean over every item that came next, and how many these are."""
        items, mask = self.sequences.history_items[rows], self.sequences.history_mask[rows]
        n_items, drawn = self.model.sizes.n_items, None
        if n_items > self.n_negatives:
            drawn = torch.from_numpy(rng.choice(n_items, self.n_negatives, replace=False))
        texts = self.model.features.read_texts(
            self.sequences,
            torch.empty(0, dtype=torch.int64),
            None if drawn is None else few([items, drawn], n_items),
        )
        states = self.model.states(texts, items[:, :-1], self.sequences.history_ratings[rows, :-1])
        asked = mask[:, 1:]
        wanted, target = states[asked], items[:, 1:][asked]
        if drawn is None:
            return cross_entropy(self.model.score_items(texts, wanted), target), len(target)
        bias = self.model.features.item_bias
        right = (wanted * self.model.item_vectors(texts, target)).sum(-1, keepdim=True)
        wrong = wanted @ self.model.item_vectors(texts, drawn).T
        right, wrong = right + bias(target), wrong + bias(drawn).T
        return sampled_cross_entropy(right, wrong, target.unsqueeze(1) == drawn), len(target)

    def _batches(self, rows: IntArray) -> Iterator[Tensor]:
        yield from torch.split(torch.from_numpy(rows), self.config.batch_size)
