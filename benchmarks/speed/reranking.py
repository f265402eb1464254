"""Reranking a list from stored vectors, against a cross-encoder that reads every pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch

from rlrf4rec.data import candidate_lists
from rlrf4rec.knowledge.encoder import KnowledgeEncoder, TextEncoder
from rlrf4rec.knowledge.lexical import LexicalSpace
from rlrf4rec.models import encoder_folder
from rlrf4rec.recommenders import FittedRecommender, ListInputs, fit
from rlrf4rec.records import PADDING, Float32Array, IntArray
from rlrf4rec.serving import Reranker
from speed.measure import Row, in_turn, medians
from speed.movielens import MovieLens, movielens

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
    data = movielens()
    deployed = _deploy(data)
    user = max(range(len(data.users)), key=lambda number: len(data.users[number]))
    items = np.random.default_rng(0).choice(len(data.items), _LIST_SIZE, replace=False)
    item_ids = data.dataset.items["item_id"].to_list()
    candidates = [item_ids[item] for item in items]
    user_id = data.dataset.users["user_id"][user]
    pairs = [(data.users[user], data.items[item]) for item in items]
    bare = deployed.bare_forward(user, items)

    def ours() -> None:
        for _ in range(_CALLS):
            deployed.reranker.rerank(candidates, user_id=user_id)

    def forward() -> None:
        for _ in range(_CALLS):
            bare()

    with _one_core(), _cross_encoder(data.config.knowledge.encoder) as peer:

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


def _deploy(data: MovieLens) -> _Deployed:
    """Trained as `rlrf4rec.stages.deploying` does, with history texts in the LLM's place."""
    config = data.config
    item_vectors, user_vectors = _vectors(data)
    lists = candidate_lists(
        data.dataset, config, config.lists.kind, config.lists.draws, config.seed
    )
    rows = np.array([user if text else PADDING for user, text in enumerate(data.users)])
    inputs = ListInputs.from_numpy(data.histories, item_vectors, user_vectors, len(item_vectors))
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
        data.dataset.items["item_id"].to_list(),
        data.dataset.users["user_id"].to_list(),
        data.histories,
        item_vectors,
        user_vectors,
        rows,
    )
    return _Deployed(reranker, recommender, inputs)


def _vectors(data: MovieLens) -> tuple[Float32Array, Float32Array]:
    """Text vectors of items and users, as a run makes them."""
    knowledge = data.config.knowledge
    with TemporaryDirectory() as folder:
        dense = TextEncoder(knowledge.encoder, Path(folder))
        encoder = KnowledgeEncoder(dense, LexicalSpace(data.items, knowledge.lexical_dim))
        return encoder.encode(data.items), encoder.encode(data.users)


@contextmanager
def _one_core() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
