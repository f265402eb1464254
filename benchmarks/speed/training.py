"""Training a reranker on text and testing it, against a loop over rows (KAR's way)."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rlrf4rec.config import RecommenderConfig
from rlrf4rec.evaluation.metrics import ndcg
from rlrf4rec.recommenders import FittedRecommender, fit
from rlrf4rec.recommenders.base import Recommender
from rlrf4rec.recommenders.epochs import make_text_optimizer
from rlrf4rec.recommenders.features import Prepared, Sizes
from rlrf4rec.recommenders.list_loss import list_loss
from rlrf4rec.recommenders.registry import resolve_backbone
from rlrf4rec.recommenders.training import (
    SILENCE,
    _learn_text_space,
)
from rlrf4rec.records import PADDING, IntArray
from rlrf4rec.workers import one_thread
from speed.measure import Row, in_turn, rates
from speed.recommending import Task, first_text, task

BACKBONE, EPOCHS, ROUNDS = "prm", 3, 3
NOISE = 0.02
"""What the NDCG@5 of two trainings may differ by: half of it is usual between two seeds."""


def vs_row_dataset() -> Row:
    """Lists a second over training and test, the same model, optimiser and number of epochs.

    What text adds is trained, on one recommender by IDs alone, which is there before the clock.

    The peer's data set makes each list's row by itself and its loader stacks 512 of them; a row
    holds what the model reads of the list: the history, the candidates, their text vectors and the
    user's, as the encoder gave them. So every candidate's text is taken in wherever it stands, as
    in KAR's code.
    """
    # As in the product's own trials, which run one to a core.
    with one_thread():
        return _vs_row_dataset()


def _vs_row_dataset() -> Row:
    work = task()
    base = _fit(work, None)
    values: dict[str, float] = {}

    def ours() -> None:
        values["ours"] = _ours(work, base)

    def theirs() -> None:
        values["theirs"] = _theirs(work, base)

    ours()
    rounds = in_turn(ours, theirs, ROUNDS)
    if abs(values["ours"] - values["theirs"]) > NOISE:
        raise RuntimeError(f"NDCG@5 differs by more than noise: {values}")
    n_lists = EPOCHS * len(_train_rows(work)) + int(work.test.sum())
    return Row(
        "reranker_vs_row_dataset",
        [theirs / ours for ours, theirs in rounds],
        target=5.0,
        details={
            **rates("lists", n_lists, rounds),
            "ndcg@5": values["ours"],
            "peer_ndcg@5": values["theirs"],
        },
    )


def _train_rows(work: Task) -> IntArray:
    positives = work.lists.labels.sum(1)
    telling = (positives > 0) & (positives < work.lists.labels.shape[1])
    return np.flatnonzero(~work.test & telling)


def _settings(work: Task) -> RecommenderConfig:
    return work.recommender.model_copy(
        update={"max_epochs": EPOCHS, "min_epochs": EPOCHS, "max_lists_per_user": None}
    )


def _fit(work: Task, base: FittedRecommender | None) -> FittedRecommender:
    """With a base the recommender that reads text; without one, by IDs alone."""
    silent = dataclasses.replace(work.inputs, item_knowledge=None, user_knowledge=None)
    rows = work.rows[:, :1]
    return fit(
        _settings(work),
        work.knowledge,
        BACKBONE,
        work.inputs if base else silent,
        work.lists,
        rows if base else np.full_like(rows, PADDING),
        ~work.test,
        np.zeros_like(work.test),
        seed=0,
        base=base,
    )


def _ours(work: Task, base: FittedRecommender) -> float:
    fitted = _fit(work, base)
    test = work.lists.select(np.flatnonzero(work.test))
    scores = fitted.score(work.inputs, test, first_text(work.rows[work.test]))
    return float(np.nanmean(ndcg(test.labels, scores, 5)))


class _Rows(Dataset[tuple[Tensor, ...]]):
    """A list a row: user, history, candidates, labels, the texts' vectors, and whether the user's
    is heard: as in the product's training, a share of the lists is ranked without it.
    """

    def __init__(self, work: Task, model: Recommender, rows: IntArray, silence: float) -> None:
        self._rows = rows
        self._heard = np.random.default_rng(0).random(len(rows)) >= silence
        self._lists = work.lists
        self._texts = first_text(work.rows)
        self._inputs = work.inputs
        self._prepared = model.features.prepare(work.inputs)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> tuple[Tensor, ...]:
        row = int(self._rows[place])
        user, prepared = int(self._lists.user[row]), self._prepared
        items = torch.from_numpy(self._lists.items[row])
        assert self._inputs.item_knowledge is not None and self._inputs.user_knowledge is not None
        return (
            prepared.history_items[user],
            prepared.history_mask[user],
            prepared.history_ratings[user],
            items,
            torch.from_numpy(self._lists.labels[row].astype(np.float32)),
            self._inputs.item_knowledge[items],
            self._inputs.user_knowledge[int(self._texts[row])],
            torch.tensor(bool(self._heard[place])),
        )


def _theirs(work: Task, base: FittedRecommender) -> float:
    inputs = work.inputs
    torch.manual_seed(0)
    sizes = Sizes(
        inputs.n_items,
        work.lists.items.shape[1],
        inputs.text_dim,
        True,
        True,
        inputs.history_items.shape[1],
    )
    model = resolve_backbone(BACKBONE)(work.recommender, work.knowledge, sizes)
    train = _train_rows(work)
    model.load_state_dict(base.model.state_dict(), strict=False)
    _learn_text_space(model, inputs, work.rows[train, :1])
    optimizer = make_text_optimizer(model, work.recommender)
    loader = DataLoader(
        _Rows(work, model, train, SILENCE), work.recommender.batch_size, shuffle=True
    )
    model.train()
    for _ in range(EPOCHS):
        for batch in loader:
            loss = list_loss(_scores(model, batch), batch[4])
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
    model.eval()
    test = np.flatnonzero(work.test)
    with torch.no_grad():
        tested = DataLoader(_Rows(work, model, test, 0.0), work.recommender.batch_size)
        scores = torch.cat([_scores(model, batch) for batch in tested]).numpy()
    return float(np.nanmean(ndcg(work.lists.labels[test], scores, 5)))


def _scores(model: Recommender, batch: list[Tensor]) -> Tensor:
    """``[b, l]``; each row's texts are taken in for that row."""
    read, mask, ratings, items, _, item_text, user_text, heard = batch
    n_lists, space = len(items), model.features.space
    assert space is not None
    silent = torch.zeros(1, space.out_dim)
    prepared = Prepared(
        read,
        mask,
        ratings,
        space.items(item_text.flatten(0, 1)),
        torch.cat([space.users(user_text), silent]),
    )
    rows = torch.arange(n_lists)
    texts = model.features.read_texts(prepared, torch.where(heard, rows, PADDING))
    # The model looks an item's text up by its ID; an item that comes twice has one text.
    texts = dataclasses.replace(
        texts,
        item=_by_id(texts.item, items, model.sizes.n_items),
        item_match=_by_id(texts.item_match, items, model.sizes.n_items),
    )
    return model.rank(prepared, texts, rows, items, rows[:, None]).squeeze(1)


def _by_id(flat: Tensor | None, items: Tensor, n_items: int) -> Tensor | None:
    if flat is None:
        return None
    return torch.zeros(n_items, flat.shape[1]).index_copy(0, items.flatten(), flat)
