"""KAR's published rerankers without knowledge, written anew: what ours are held against.

KAR is arXiv 2306.10933; sizes and settings are those of its public code (``RS/models.py``,
``RS/main_rerank.py``, ``RS/run_rerank.py``). DLCM, PRM and SetRank see a candidate's ID and its
first genre, in the order in which the list happens to come, and nothing of the user.

One thing is not as published: training stops by validation users, where KAR's code stops by the
test set. KAR's cosine schedule is left out: it counts lists where the optimiser counts batches, so
it hardly moves before training stops. Of the learning rates in KAR's grid we take the larger one:
on ours the smaller one ended lower (SetRank, one fold, validation users).

Shapes: ``b`` lists, ``l`` candidates, ``c`` the width of a candidate.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from rlrf4rec.evaluation.metrics import list_metrics
from rlrf4rec.records import BoolArray, CandidateLists, Float32Array, IntArray

EMBEDDING = 32
GRU_WIDTH = 64
MLP_WIDTHS = (200, 80)
N_HEADS = 2
TEMPERATURE = 0.5
BATCH = 256
MAX_EPOCHS = 50
PATIENCE = 3
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.0
STOP_BY = "map_hits@5"

Batch = tuple[Tensor, Tensor, Tensor]
"""Items, genres and labels, each ``[b, l]``."""


class KarReranker(nn.Module):
    """A candidate is its ID's and its first genre's embedding; subclasses score ``[b, l, c]``."""

    def __init__(self, n_items: int, n_genres: int) -> None:
        super().__init__()
        self.item = nn.Embedding(n_items, EMBEDDING)
        self.genre = nn.Embedding(n_genres, EMBEDDING)
        self.width = 2 * EMBEDDING

    def forward(self, items: Tensor, genres: Tensor) -> Tensor:
        """Scores ``[b, l]``."""
        return self.score(torch.cat([self.item(items), self.genre(genres)], dim=-1))

    def score(self, candidates: Tensor) -> Tensor:
        """``[b, l, c]`` to ``[b, l]``."""
        raise NotImplementedError

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy, candidate by candidate; scores are probabilities."""
        return binary_cross_entropy(scores, labels)


class KarDLCM(KarReranker):
    """A GRU over the list; its last state is compared with each of its outputs."""

    def __init__(self, n_items: int, n_genres: int) -> None:
        super().__init__(n_items, n_genres)
        self.gru = nn.GRU(self.width, GRU_WIDTH, batch_first=True)
        self.state = nn.Sequential(
            nn.BatchNorm1d(GRU_WIDTH), nn.Linear(GRU_WIDTH, GRU_WIDTH), nn.Tanh()
        )
        self.norm = nn.BatchNorm1d(GRU_WIDTH)
        self.out = nn.Linear(GRU_WIDTH, 2)

    def score(self, candidates: Tensor) -> Tensor:
        """``[b, l, c]`` to ``[b, l]``."""
        outputs, state = self.gru(candidates)
        normed = self.norm(outputs.transpose(1, 2)).transpose(1, 2)
        both: Tensor = self.out(self.state(state[-1]).unsqueeze(1) * normed)
        return both.softmax(-1)[..., 0]


class KarAttention(KarReranker):
    """Self-attention over the list, then an MLP of each candidate before and after it."""

    def __init__(self, n_items: int, n_genres: int) -> None:
        super().__init__(n_items, n_genres)
        self.attention = nn.MultiheadAttention(self.width, N_HEADS, batch_first=True)
        first, second = MLP_WIDTHS
        self.mlp = nn.Sequential(
            nn.Linear(2 * self.width, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Linear(second, 1),
        )

    def logits(self, candidates: Tensor) -> Tensor:
        """``[b, l, c]`` to ``[b, l]``."""
        attended, _ = self.attention(candidates, candidates, candidates, need_weights=False)
        logits: Tensor = self.mlp(torch.cat([attended, candidates], dim=-1)).squeeze(-1)
        return logits


class KarPRM(KarAttention):
    """With sines and cosines of the place in the list."""

    def score(self, candidates: Tensor) -> Tensor:
        """``[b, l, c]`` to ``[b, l]``."""
        place = torch.arange(candidates.shape[1]).unsqueeze(1)
        column = torch.arange(self.width)
        angle = place / 10_000 ** (2 * (column // 2) / self.width)
        wave = torch.where(column % 2 == 0, angle.sin(), angle.cos())
        wave[0] = 0  # as KAR's code has it
        return self.logits(candidates + wave).sigmoid()


class KarSetRank(KarAttention):
    """Without places; trained by the attention loss of the DLCM paper."""

    def score(self, candidates: Tensor) -> Tensor:
        """``[b, l, c]`` to ``[b, l]``."""
        return self.logits(candidates)

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy between the lists' shares of attention; what is not above 0 gets none."""
        return binary_cross_entropy(_attention(scores), _attention(labels))


DESIGNS: dict[str, type[KarReranker]] = {"dlcm": KarDLCM, "prm": KarPRM, "setrank": KarSetRank}


def _attention(values: Tensor) -> Tensor:
    heard = torch.where(values > 0, (values / TEMPERATURE).exp(), 0.0)
    return heard / (heard.sum(1, keepdim=True) + 1e-20)


@dataclass(frozen=True)
class KarFitted:
    """A trained design."""

    model: KarReranker
    genre: IntArray

    def score(self, lists: CandidateLists) -> Float32Array:
        """``[n, l]``."""
        items, genres, _ = _batch(lists, self.genre)
        self.model.eval()
        with torch.no_grad():
            scores: Float32Array = self.model(items, genres).numpy()
        return scores


def fit_kar(
    name: str,
    lists: CandidateLists,
    genre: IntArray,
    train: BoolArray,
    validation: BoolArray,
    *,
    seed: int,
) -> KarFitted:
    """Train a design until the validation users' `STOP_BY` stands still; keep the best epoch.

    Args:
        name: of `DESIGNS`.
        lists: ``n`` lists.
        genre: ``[i]``, each item's first genre.
        train: ``[n]``.
        validation: ``[n]``.
        seed: of weights and order.
    """
    learned, held = _batch(lists.select(train), genre), lists.select(validation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DESIGNS[name](len(genre), int(genre.max()) + 1)
        model.apply(_initialise)
        fitted = KarFitted(model, genre)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )
        best, weights, waited = -np.inf, model.state_dict(), 0
        for _ in range(MAX_EPOCHS):
            _train_epoch(model, learned, optimizer)
            value = _value(fitted, held)
            if value > best:
                best, weights, waited = value, copy.deepcopy(model.state_dict()), 0
            else:
                waited += 1
            if waited >= PATIENCE:
                break
        model.load_state_dict(weights)
    return fitted


def _train_epoch(model: KarReranker, learned: Batch, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    for rows in torch.split(torch.randperm(len(learned[0])), BATCH):
        items, genres, labels = (part[rows] for part in learned)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(model.loss(model(items, genres), labels))
        optimizer.step()


def _value(fitted: KarFitted, held: CandidateLists) -> float:
    scores = fitted.score(held).astype(np.float64)
    return float(np.nanmean(list_metrics(held.labels, scores, [5])[STOP_BY]))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.xavier_normal_(module.weight)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _batch(lists: CandidateLists, genre: IntArray) -> Batch:
    return (
        torch.from_numpy(lists.items),
        torch.from_numpy(genre[lists.items]),
        torch.from_numpy(lists.labels.astype(np.float32)),
    )
