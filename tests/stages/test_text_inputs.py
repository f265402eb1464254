"""Texts as recommenders read them, worked out by hand."""

from __future__ import annotations

import numpy as np
import polars as pl

from rlrf4rec.stages.text_inputs import mean_vectors, text_rows


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
