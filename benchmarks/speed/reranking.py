"""Reranking a list from stored vectors, against a cross-encoder that reads every pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch

from rlrf4rec.models import encoder_folder
from rlrf4rec.recommenders import FittedRecommender, ListInputs, fit
from rlrf4rec.records import PADDING, IntArray
from rlrf4rec.serving import Reranker
from rlrf4rec.workers import one_thread
from speed.measure import Row, in_turn, medians
from speed.work import texts, world

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_ROUNDS = 5
_LIST_SIZE = 50
_CALLS = 100
"""Lists of ours in a round, against one of the peer's: a list takes us a millisecond."""
_EPOCHS = 3
_TIMES_BARE = 2.0


def vs_cross_encoder() -> Row:
    """One list of 50 candidates on one core, from a deployed PRM and from a MiniLM cross-encoder.

    Both rank the list of one user: we from stored vectors, the peer from 50 pairs of the user's
    text (of the reading history) and an item's. The peer has the weights of all-MiniLM-L6-v2 under
    a new head of one label, since trained heads are not to be had without a network: it takes the
    same time and its scores are not looked at.

    ``bare_forward_ms`` is the model's forward pass on tensors that are there already; all that
    serving adds to it should take no longer than it.
    """
    here = world()
    item_texts, user_texts = texts()
    deployed = _deploy(user_texts)
    user = max(range(len(user_texts)), key=lambda number: len(user_texts[number]))
    items = np.random.default_rng(0).choice(len(item_texts), _LIST_SIZE, replace=False)
    item_ids = here.dataset.items["item_id"].to_list()
    candidates = [item_ids[item] for item in items]
    user_id = here.dataset.users["user_id"][user]
    pairs = [(user_texts[user], item_texts[item]) for item in items]
    bare = deployed.bare_forward(user, items)

    def ours() -> None:
        for _ in range(_CALLS):
            deployed.reranker.rerank(candidates, user_id=user_id)

    def forward() -> None:
        for _ in range(_CALLS):
            bare()

    with one_thread(), _cross_encoder(here.config.knowledge.encoder) as peer:

        def theirs() -> None:
            peer.predict(pairs, show_progress_bar=False)

        for warm_up in (ours, forward, theirs):
            warm_up()
        rounds = [(own / _CALLS, other) for own, other in in_turn(ours, theirs, _ROUNDS)]
        bare_rounds = [(own / _CALLS, other / _CALLS) for own, other in in_turn(ours, forward, 9)]
    own_seconds, peer_seconds = medians(rounds)
    own_beside_bare, bare_seconds = medians(bare_rounds)
    times_bare = own_beside_bare / bare_seconds
    return Row(
        "rerank_vs_cross_encoder",
        [other / own for own, other in rounds],
        target=100.0,
        details={
            "ours_ms": own_seconds * 1000,
            "peer_ms": peer_seconds * 1000,
            "bare_forward_ms": bare_seconds * 1000,
            "times_bare": times_bare,
            "times_bare_at_most_2": "ok" if times_bare <= _TIMES_BARE else "MISSED",
        },
    )


@dataclass(frozen=True)
class _Deployed:
    """A reranker, and what its model is made of."""

    reranker: Reranker
    recommender: FittedRecommender
    inputs: ListInputs

    def bare_forward(self, user: int, items: IntArray) -> Callable[[], object]:
        """The forward pass for one list, everything it reads being prepared."""
        model = self.recommender.model
        users, row = torch.tensor([user]), torch.zeros(1, 1, dtype=torch.int64)
        listed = torch.from_numpy(items).unsqueeze(0)
        with torch.no_grad():
            prepared = model.features.prepare(self.inputs)
            texts = model.features.read_texts(prepared, users)

        @torch.no_grad()
        def forward() -> object:
            return model.rank(prepared, texts, users, listed, row)

        return forward


def _deploy(user_texts: list[str]) -> _Deployed:
    """Trained as `rlrf4rec.stages.deploying` does, with history texts in the LLM's place."""
    here = world()
    config, dataset, lists = here.config, here.dataset, here.lists()
    vectors = here.encoder.encode(user_texts)
    rows = np.array([user if text else PADDING for user, text in enumerate(user_texts)])
    inputs = ListInputs.from_numpy(here.histories, here.item_vectors, vectors, dataset.n_items)
    recommender = fit(
        config.recommender.model_copy(update={"max_epochs": _EPOCHS, "min_epochs": 1}),
        config.knowledge,
        "prm",
        inputs,
        lists,
        rows[lists.user][:, None],
        np.ones(len(lists), dtype=bool),
        np.zeros(len(lists), dtype=bool),
        seed=config.seed,
    )
    reranker = Reranker(
        recommender,
        dataset.items["item_id"].to_list(),
        dataset.users["user_id"].to_list(),
        here.histories,
        here.item_vectors,
        vectors,
        rows,
    )
    return _Deployed(reranker, recommender, inputs)


@contextmanager
def _cross_encoder(name: str) -> Iterator[CrossEncoder]:
    """The encoder's weights under a new head that gives one score a pair."""
    from sentence_transformers import CrossEncoder
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = encoder_folder(name)
    with TemporaryDirectory() as folder:
        model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        yield CrossEncoder(folder, device="cpu")
