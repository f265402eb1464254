"""A trained recommender: it scores lists, and it can be stored."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig
from rlrf4rec.errors import DataError, WorkspaceError
from rlrf4rec.recommenders.base import Recommender
from rlrf4rec.recommenders.features import Prepared, Sizes, Texts, prepare_histories
from rlrf4rec.recommenders.inputs import ListInputs, check_lists, check_range, check_rows
from rlrf4rec.recommenders.registry import resolve_backbone
from rlrf4rec.recommenders.sequential import SequentialRecommender
from rlrf4rec.records import PADDING, CandidateLists, Float32Array, Histories, IntArray

FORMAT_VERSION = 1
SCORING_CANDIDATES = 10_000
"""Candidates (times texts) scored at once: some 15 MB of features, most of which a core's cache
holds. Twice as many took 1.4 times as long each (PRM, two cores), half as many 1.2 times."""
SCORING_USERS = 1024
"""Users whose catalogue is scored at once: histories of 30 items take some 10 MB."""


@dataclass(frozen=True)
class Losses:
    """After a part of an epoch; ``validation_loss`` is None without validation lists."""

    train_loss: float
    validation_loss: float | None


@dataclass(frozen=True)
class Scorer:
    """A recommender that has taken in what it scores with: a call costs little but its own lists.

    Attributes:
        model: in evaluation mode.
        inputs: histories and text vectors.
        prepared: of these.
        texts: the items', and all of the users', with "no text" after the last.
    """

    model: Recommender
    inputs: ListInputs
    prepared: Prepared
    texts: Texts

    def score(
        self,
        lists: CandidateLists,
        knowledge_rows: IntArray,
        histories: Histories | None = None,
    ) -> Float32Array:
        """`FittedRecommender.score` with the inputs that were taken in.

        The scores agree within 1e-6 and not to the last bit: texts are taken in all together here,
        only those that are wanted there, and a matrix product sums up in another order when it has
        other rows beside. Taking in one text would cost a third of a list's forward pass.

        Args:
            lists: ``n`` lists of ``l`` candidates.
            knowledge_rows: ``[n]`` or ``[n, s]``.
            histories: what the lists' users have read, in place of the inputs' histories.

        Raises:
            DataError: indices out of range.
        """
        inputs, prepared = self.inputs, self.prepared
        if histories is not None:
            check_range("read items", histories.items, self.model.sizes.n_items, lowest=PADDING)
            items, ratings = torch.from_numpy(histories.items), torch.from_numpy(histories.ratings)
            inputs = replace(inputs, history_items=items, history_ratings=ratings)
            names = ("history_items", "history_mask", "history_ratings")
            own = dict(zip(names, prepare_histories(items, ratings), strict=True))
            prepared = replace(prepared, **own)
        rows = _as_columns(knowledge_rows)
        check_lists(lists, inputs, self.model.sizes.n_items)
        check_rows(rows, lists, inputs)
        # Row -1, no text, is the last one.
        scores = _score_lists(self.model, prepared, self.texts, lists, rows)
        return scores if knowledge_rows.ndim == 2 else scores[:, 0]


def _as_columns(rows: IntArray) -> IntArray:
    return rows if rows.ndim == 2 else rows[:, None]


@torch.no_grad()
def _score_lists(
    model: Recommender, prepared: Prepared, texts: Texts, lists: CandidateLists, rows: IntArray
) -> Float32Array:
    """``[n, s, l]``; rows ``[n, s]`` of ``texts.user``."""
    scores = np.empty((len(lists), rows.shape[1], lists.items.shape[1]), dtype=np.float32)
    batch_size = max(SCORING_CANDIDATES // max(scores[0:1].size, 1), 1)
    indices = (lists.user, lists.items, rows)
    for start in range(0, len(lists), batch_size):
        part = slice(start, start + batch_size)
        users, items, texts_read = (torch.from_numpy(index[part]) for index in indices)
        scores[part] = model.rank(prepared, texts, users, items, texts_read).numpy()
    return scores


@dataclass(frozen=True)
class FittedRecommender:
    """What `fit` returns.

    Attributes:
        backbone: its name, as `resolve_backbone` takes it.
        config: the settings it was trained with.
        knowledge: likewise.
        model: in evaluation mode.
        history: of the training by IDs alone, then of that with text.
    """

    backbone: str
    config: RecommenderConfig
    knowledge: KnowledgeConfig
    model: Recommender
    history: tuple[Losses, ...]

    def score(
        self, inputs: ListInputs, lists: CandidateLists, knowledge_rows: IntArray
    ) -> Float32Array:
        """Score every candidate; higher ranks first. The labels of the lists are not read.

        Args:
            inputs: histories and text vectors of the lists' users.
            lists: ``n`` lists of ``l`` candidates.
            knowledge_rows: ``[n]`` or ``[n, s]``, for each list one or several texts of its user
                (rows of ``inputs.user_knowledge``); -1: none, ranked by ID alone. Several texts
                cost far less in one call than one by one.

        Returns:
            ``[n, l]``, or ``[n, s, l]`` for ``[n, s]`` rows.

        Raises:
            DataError: indices out of range, or text vectors the model was not trained with.
        """
        rows = _as_columns(knowledge_rows)
        self._check_texts(inputs)
        check_lists(lists, inputs, self.model.sizes.n_items)
        check_rows(rows, lists, inputs)
        wanted, local = np.unique(rows, return_inverse=True)
        with torch.no_grad():
            prepared = self.model.features.prepare(inputs)
            texts = self.model.features.read_texts(prepared, torch.from_numpy(wanted))
        scores = _score_lists(self.model, prepared, texts, lists, local.reshape(rows.shape))
        return scores if knowledge_rows.ndim == 2 else scores[:, 0]

    def scorer(self, inputs: ListInputs) -> Scorer:
        """Take all inputs in, to score with them in many calls.

        Raises:
            DataError: text vectors the model was not trained with.
        """
        self._check_texts(inputs)
        n_texts = 0 if inputs.user_knowledge is None else len(inputs.user_knowledge)
        rows = torch.tensor([*range(n_texts), PADDING])
        with torch.no_grad():
            prepared = self.model.features.prepare(inputs)
            texts = self.model.features.read_texts(prepared, rows)
        return Scorer(self.model, inputs, prepared, texts)

    def score_catalogue(
        self, inputs: ListInputs, users: IntArray, knowledge_rows: IntArray | None = None
    ) -> Float32Array:
        """Score every item for users, whom `score` would score alike in a list.

        Args:
            inputs: histories and text vectors of the users.
            users: ``[b]``. The result is ``b`` times the catalogue: call with as many as fit.
            knowledge_rows: ``[b]``, a text of each user (row of ``inputs.user_knowledge``); -1 or
                None: none.

        Returns:
            ``[b, i]``; higher ranks first. Items that the user has read are scored, too.

        Raises:
            DataError: as `score`, or a backbone that only ranks lists.
        """
        model = self.model
        if not isinstance(model, SequentialRecommender):
            raise DataError(
                "a backbone that scores the whole catalogue, such as sasrec or gru4rec",
                found=f"{self.backbone!r}, which ranks candidate lists",
                remedy="Retrieve with a sequential recommender, rerank with this one.",
            )
        self._check_texts(inputs)
        check_range("users", users, inputs.n_users)
        rows = np.full(len(users), PADDING) if knowledge_rows is None else knowledge_rows
        n_texts = 0 if inputs.user_knowledge is None else len(inputs.user_knowledge)
        check_range("knowledge rows", rows, n_texts, lowest=PADDING)
        scores = np.empty((len(users), model.sizes.n_items), dtype=np.float32)
        with torch.no_grad():
            prepared = model.features.prepare(inputs)
            for start in range(0, len(users), SCORING_USERS):
                part = slice(start, start + SCORING_USERS)
                texts = model.features.read_texts(prepared, torch.from_numpy(rows[part]))
                local = torch.arange(len(rows[part])).unsqueeze(1)
                ranked = model.rank_catalogue(prepared, texts, torch.from_numpy(users[part]), local)
                scores[part] = ranked.squeeze(1).numpy()
        return scores

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        described = {
            "format_version": FORMAT_VERSION,
            "backbone": self.backbone,
            "recommender": self.config.model_dump(mode="json"),
            "knowledge": self.knowledge.model_dump(mode="json"),
            "sizes": asdict(self.model.sizes),
            "history": [asdict(losses) for losses in self.history],
        }
        (folder / "config.json").write_text(json.dumps(described, indent=2), encoding="utf-8")
        save_file(self.model.state_dict(), folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> FittedRecommender:
        """Read what `save` wrote. A backbone given by class path is imported.

        Raises:
            WorkspaceError: files missing, damaged or of another format.
            ConfigError: its backbone cannot be imported.
        """
        try:
            described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if described["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format version {described['format_version']}")
            config = RecommenderConfig.model_validate(described["recommender"])
            knowledge = KnowledgeConfig.model_validate(described["knowledge"])
            backbone = resolve_backbone(described["backbone"])
            # Building draws initial weights, soon overwritten: leave the caller's generator alone.
            with torch.random.fork_rng(devices=[]):
                model = backbone(config, knowledge, Sizes(**described["sizes"]))
            model.load_state_dict(load_file(folder / "model.safetensors"))
            history = tuple(Losses(**losses) for losses in described["history"])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise WorkspaceError(
                f"a recommender of format {FORMAT_VERSION} in {folder}",
                found=f"{type(error).__name__}: {error}",
                remedy="Train it again, or restore the folder's config.json and model.safetensors.",
            ) from error
        model.eval()
        return cls(described["backbone"], config, knowledge, model, history)

    def _check_texts(self, inputs: ListInputs) -> None:
        sizes, kinds = self.model.sizes, self.model.features.kinds
        changed = inputs.item_knowledge is not None and inputs.n_items != sizes.n_items
        if changed or inputs.n_items > sizes.n_items:
            raise DataError(
                f"the {sizes.n_items} items the recommender was trained with",
                found=f"{inputs.n_items} items",
                remedy="Score with the catalogue of the training run (n_items of ListInputs).",
            )
        if "item" in kinds and inputs.item_knowledge is None:
            raise DataError(
                "the items' text vectors that the recommender was trained with",
                found="none",
                remedy="Pass item_knowledge, or train with knowledge.item off.",
            )
        if kinds and inputs.text_dim not in (0, sizes.text_dim):
            raise DataError(
                f"text vectors of dimension {sizes.text_dim}",
                found=f"dimension {inputs.text_dim}",
                remedy="Encode with the encoder that the recommender was trained with.",
            )
