"""The product at the end: one reranker trained on everyone, and a stored vector per user."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from rlrf4rec.data import latest_histories
from rlrf4rec.recommenders import backbone_identity, fit
from rlrf4rec.records import Float32Array, Histories, IntArray
from rlrf4rec.serving.reranker import SCALE_FILE
from rlrf4rec.stages.systems import held_out_texts
from rlrf4rec.stages.text_inputs import text_inputs, user_vectors
from rlrf4rec.stages.trail import Trail
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage, StageWriter


def deploy(world: World, trail: Trail) -> Stage:
    """Train the first backbone on all users' lists and the last round's texts, and store it.

    It learns from reading histories, as it is tested; what is stored are users' latest interactions
    and, joined to the texts, these's own text (`evaluation.deploy_latest`).

    Writes what serving reads, and nothing else is needed there: ``recommender/``,
    ``vectors.safetensors`` (``items`` ``[i, d]``; ``texts`` ``[u, d]``, the mean of each user's
    texts, joined to the history's own or not; ``rows`` ``[u]``, the user's row of it, -1 for none),
    ``histories.safetensors``, ``log.json`` (the scale of its ratings), ``items.parquet``,
    ``users.parquet`` and ``texts.parquet``.
    """
    config = world.config
    last = trail.final
    with_history = config.evaluation.deploy_with_history
    on_progress = world.reporter.start("deployed", "users")

    def work(writer: StageWriter) -> None:
        on_progress(0, world.dataset.n_users)
        texts = held_out_texts(world, last.samples, config.texts_per_user)
        read = _with_background(world, texts)
        vectors, rows = user_vectors(world, read, join_history=with_history or None)
        inputs, rows, practice = text_inputs(world, vectors, rows)
        lists = world.lists()
        validation = (world.folds.role == "validation")[lists.user]
        recommender = fit(
            config.recommender,
            config.knowledge,
            config.evaluation.backbones[0],
            inputs,
            lists,
            rows[lists.user],
            ~validation,
            validation,
            seed=config.seed,
            practice_rows=practice[lists.user],
        )
        recommender.save(writer.folder / "recommender")
        known = world.histories
        if config.evaluation.deploy_latest:
            known = latest_histories(world.dataset, known.items.shape[1])
            vectors, rows = user_vectors(
                world, read, join_history=with_history or None, histories=known
            )
        _write_vectors(writer, world, vectors, rows, known)
        rating = world.dataset.interactions["rating"].drop_nulls()
        ends = [rating.min(), rating.max()] if len(rating) else None
        writer.write_text(SCALE_FILE, json.dumps({"ratings": ends}))
        writer.write_frame("items.parquet", world.dataset.items)
        writer.write_frame("users.parquet", world.dataset.users)
        writer.write_frame("texts.parquet", texts.select("user", "user_id", "sample", "text"))
        on_progress(world.dataset.n_users, world.dataset.n_users)

    settings = {
        "recommender": config.recommender.model_dump(),
        "knowledge": config.knowledge.model_dump(),
        "backbone": backbone_identity(config.evaluation.backbones[0]),
        "texts_per_user": config.texts_per_user,
        "with_history": with_history,
        "latest": config.evaluation.deploy_latest,
        "kind": config.lists.kind,
        "seed": config.seed,
    }
    needs = [*world.list_stages(), *last.samples.values()]
    stage = world.workspace.stage("deployed", settings, needs, work, replayable=True)
    world.reporter.finish("deployed", stage.seconds)
    return stage


def _with_background(world: World, texts: pl.DataFrame) -> pl.DataFrame:
    """The texts, and an empty one of each user whom nobody wrote for.

    Joined to the history's text it is that alone; by itself it is no knowledge (`text_rows`).
    """
    silent = pl.DataFrame(
        {"user": np.flatnonzero(~world.folds.written), "sample": 0, "text": ""},
        schema={name: texts.schema[name] for name in ("user", "sample", "text")},
    )
    return pl.concat([texts.select(silent.columns), silent])


def _write_vectors(
    writer: StageWriter,
    world: World,
    vectors: Float32Array,
    rows: IntArray,
    known: Histories,
) -> None:
    arrays: dict[str, np.ndarray] = {
        "items": world.item_vectors,
        "texts": vectors,
        "rows": rows[:, 0],
    }
    writer.write("vectors.safetensors", lambda path: save_file(arrays, path))
    histories: dict[str, np.ndarray] = {
        "items": known.items,
        "ratings": known.ratings,
        "lengths": known.lengths,
    }
    writer.write("histories.safetensors", lambda path: save_file(histories, path))
