"""What every step of a run reads: data, histories, lists, folds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

from rlrf4rec.config import Config, ListKind, ModelConfig
from rlrf4rec.data import (
    candidate_lists,
    folds_of,
    folds_to_frame,
    load_dataset,
    reading_histories,
    require_feedback,
)
from rlrf4rec.generation.engines import available_device
from rlrf4rec.knowledge.encoder import KnowledgeEncoder, TextEncoder, cache_name, encoding_path
from rlrf4rec.knowledge.lexical import LexicalSpace
from rlrf4rec.knowledge.linking import ItemLinker
from rlrf4rec.knowledge.texts import item_texts, practice_texts
from rlrf4rec.models import model_identity
from rlrf4rec.progress import Reporter, Silent
from rlrf4rec.prompts import Template, load_template
from rlrf4rec.recommenders import try_backbones
from rlrf4rec.records import (
    PADDING,
    CandidateLists,
    Dataset,
    Float32Array,
    Folds,
    Histories,
    IntArray,
)
from rlrf4rec.stages.retrieving import retrieve_candidates, retrieve_lists
from rlrf4rec.workspace import Stage, StageWriter, Workspace


class Practice(NamedTuple):
    """Vectors ``[r, d]``, and each user's rows of them, ``[u, m]``; -1: none."""

    vectors: Float32Array
    rows: IntArray


@dataclass(frozen=True)
class World:
    """A run's unchanging part.

    Attributes:
        config: the run's settings.
        workspace: its folder.
        reporter: hears of progress.
        dataset: the cleaned log.
        histories: reading histories, ``[u, h]``.
        folds: who is used for what.
        data: the stage that stores the log, the catalogue and the users.
        listed: the stage that stores the folds and the run's own kind of lists.
        first_stage: the stage that trains the first stage; None where the run has no such lists.
        listed_apart: by kind, the stages that store the lists of every other kind of the
            evaluation, and those of kind ``first_stage``. Stages of their own, so that one more
            evaluation makes nothing else stale.
    """

    config: Config
    workspace: Workspace
    reporter: Reporter
    dataset: Dataset
    histories: Histories
    folds: Folds
    data: Stage
    listed: Stage
    first_stage: Stage | None = None
    listed_apart: dict[str, Stage] = field(default_factory=dict)
    _lists: dict[str, CandidateLists] = field(default_factory=dict)

    def lists(self, kind: str | None = None) -> CandidateLists:
        """The candidate lists of a kind (default: the run's own), all draws."""
        kind = kind or self.config.lists.kind
        if kind not in self._lists:
            stage = self.list_stages(kind)[-1]
            self._lists[kind] = CandidateLists.from_frame(stage.frame(f"lists-{kind}.parquet"))
        return self._lists[kind]

    def list_stages(self, kind: str | None = None) -> list[Stage]:
        """What a stage needs that reads a kind's lists (default: the run's own), which the last of
        these holds.
        """
        apart = self.listed_apart.get(kind or self.config.lists.kind)
        return [self.listed] if apart is None else [self.listed, apart]

    @cached_property
    def user_numbers(self) -> dict[str, int]:
        """The log's own user ids to the numbers used inside."""
        return {user_id: user for user, user_id in enumerate(self.dataset.users["user_id"])}

    @cached_property
    def template(self) -> Template:
        """The domain's prompt template."""
        return load_template(self.config.prompt.template)

    @cached_property
    def encoder(self) -> KnowledgeEncoder:
        """From texts to vectors, with the run's cache."""
        knowledge = self.config.knowledge
        device = available_device(self.config.machine)
        cache, *others = (
            folder
            / "vectors"
            / cache_name(model_identity(knowledge.encoder), encoding_path(device))
            for folder in (self.workspace.folder, *self.workspace.siblings)
        )
        dense = TextEncoder(knowledge.encoder, cache, device, others, self.reporter)
        if not knowledge.lexical_dim:
            return KnowledgeEncoder(dense, None)
        return KnowledgeEncoder(dense, LexicalSpace(self.item_texts, knowledge.lexical_dim))

    @cached_property
    def item_texts(self) -> list[str]:
        """The catalogue's texts, ``[i]``."""
        return item_texts(self.dataset)

    @cached_property
    def linker(self) -> ItemLinker:
        """Brings items that a text names to the catalogue's own words."""
        lines = self.template.lines if self.config.knowledge.link_items else {}
        return ItemLinker(
            self.dataset.items["title"].to_list(),
            self.item_texts,
            {factor: form.separator for factor, form in lines.items() if form.names_items},
            self.template.title_characters,
        )

    @cached_property
    def item_vectors(self) -> Float32Array:
        """Text vectors of the catalogue, ``[i, d]``."""
        return self.encoder.encode(self.item_texts)

    @cached_property
    def practice(self) -> Practice:
        """Texts made of the reading histories, which only training reads."""
        n_texts = self.config.knowledge.practice_texts
        texts = practice_texts(
            self.dataset,
            self.histories,
            self.config.data.positive_rating,
            n_texts,
            self.config.seed,
        )
        flat = [text for of_draw in texts for text in of_draw]
        rows = np.arange(len(flat)).reshape(n_texts, self.dataset.n_users).T
        said = np.array([bool(text) for text in flat], dtype=bool).reshape(rows.T.shape).T
        return Practice(self.encoder.encode(flat), np.where(said, rows, PADDING))


def require_parts(config: Config) -> Template:
    """The template, once it and every recommender of the run are known to be there.

    Raises:
        ConfigError: a template or a recommender that a run would not find.
    """
    try_backbones(config.backbones, config.recommender, config.knowledge)
    return load_template(config.prompt.template)


def open_world(config: Config, workspace: Workspace, reporter: Reporter | None = None) -> World:
    """Load the data and store what the run makes of them.

    Two stages, so that other lists or folds do not make the LLM's texts stale: ``data`` (log,
    catalogue, users), which prompts depend on, and ``lists`` (folds and the run's own kind of
    candidate lists). Each further kind of the evaluation is one more; lists of kind
    ``first_stage`` are two, which train the first stage if they have to.

    Raises:
        RLRF4RecError: the data or the settings cannot be used.
    """
    require_parts(config)
    dataset = load_dataset(config)
    histories = reading_histories(dataset, config.lists)
    folds = folds_of(dataset, config)
    data = _store_data(config, workspace, dataset)
    lists = _store_lists(config, workspace, dataset, folds, data)
    world = World(config, workspace, reporter or Silent(), dataset, histories, folds, data, lists)
    kinds = dict.fromkeys([config.lists.kind, *config.evaluation.kinds])
    first_stage: Stage | None = None
    apart: dict[str, Stage] = {}
    for kind in kinds:
        if kind == "first_stage":
            first_stage = retrieve_candidates(world)
            apart[kind] = retrieve_lists(world, first_stage)
        elif kind != config.lists.kind:
            apart[kind] = _store_lists_apart(config, workspace, dataset, kind, data)
    world = replace(world, first_stage=first_stage, listed_apart=apart)
    require_feedback(dataset, world.lists(), folds, config.data.positive_rating)
    return world


def _store_data(config: Config, workspace: Workspace, dataset: Dataset) -> Stage:
    def work(writer: StageWriter) -> None:
        writer.write_frame("interactions.parquet", dataset.interactions)
        writer.write_frame("items.parquet", dataset.items)
        writer.write_frame("users.parquet", dataset.users)

    settings = {
        "data": _dataset_fingerprint(dataset),
        "positive_rating": config.data.positive_rating,
        "max_reading": config.lists.max_reading,
    }
    return workspace.stage("data", settings, [], work, replayable=True, given=True)


def _store_lists(
    config: Config, workspace: Workspace, dataset: Dataset, folds: Folds, data: Stage
) -> Stage:
    kinds = [kind for kind in (config.lists.kind,) if kind != "first_stage"]

    def work(writer: StageWriter) -> None:
        writer.write_frame("folds.parquet", folds_to_frame(folds))
        for kind in kinds:
            lists = candidate_lists(dataset, config, kind, config.lists.draws, config.seed)
            writer.write_frame(f"lists-{kind}.parquet", lists.to_frame())

    settings = {
        "lists": config.lists.model_dump(exclude={"kind"}),
        "kinds": kinds,
        "folds": config.of_folds(),
        "seed": config.seed,
    }
    return workspace.stage("lists", settings, [data], work, replayable=True, given=True)


def _store_lists_apart(
    config: Config, workspace: Workspace, dataset: Dataset, kind: ListKind, data: Stage
) -> Stage:
    def work(writer: StageWriter) -> None:
        lists = candidate_lists(dataset, config, kind, config.lists.draws, config.seed)
        writer.write_frame(f"lists-{kind}.parquet", lists.to_frame())

    settings = {"lists": config.lists.model_dump(exclude={"kind"}), "seed": config.seed}
    return workspace.stage(f"evaluation/{kind}/lists", settings, [data], work, replayable=True)


def model_settings(model: ModelConfig) -> dict[str, object]:
    """What of the LLM's settings an output depends on."""
    return {**model.model_dump(), "name": model_identity(model.name)}


def _dataset_fingerprint(dataset: Dataset) -> str:
    """SHA-256 of the data themselves, not of a file format that may change with a library."""
    digest = hashlib.sha256(dataset.name.encode())
    log = dataset.interactions
    for column in ("user", "item", "position"):
        digest.update(log[column].to_numpy().astype(np.int64).tobytes())
    digest.update(log["rating"].cast(pl.Float32).fill_null(np.nan).to_numpy().tobytes())
    for frame, columns in (
        (dataset.items, ("item_id", "title", "details")),
        (dataset.users, ("user_id", "profile")),
    ):
        for row in frame.select(columns).iter_rows():
            digest.update("\0".join(row).encode("utf-8", "surrogatepass") + b"\1")
    return digest.hexdigest()
