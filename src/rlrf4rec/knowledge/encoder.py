"""The frozen text encoder: texts to vectors, each text encoded once in a run.

The cache is a folder of segments; each segment is one safetensors file, written aside and renamed,
with the texts' SHA-256 beside their vectors. A broken segment is dropped and encoded again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from rlrf4rec.knowledge.lexical import LexicalSpace
from rlrf4rec.models import encoder_folder
from rlrf4rec.records import Float32Array
from rlrf4rec.workspace import readable_os_errors, write_aside

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_GPU_BATCH = 64
_SEGMENT = 4096


class TextEncoder:
    """A sentence-transformers model with a cache by text.

    Args:
        name: the encoder, see `rlrf4rec.models`.
        cache: folder of the cached vectors; it belongs to this encoder alone.
        device: ``cpu`` or ``cuda``.
        others: caches of other runs with this encoder. A segment of theirs is taken over when it
            holds exactly the texts that would be encoded together here, so that every vector is,
            to the last bit, what this run would have computed.
    """

    def __init__(
        self, name: str, cache: Path, device: str = "cpu", others: Sequence[Path] = ()
    ) -> None:
        self._name = name
        self._cache = cache
        self._device = device
        self._others = tuple(others)

    @cached_property
    def _model(self) -> SentenceTransformer:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(
            str(encoder_folder(self._name)),
            device=self._device,
            model_kwargs={"use_safetensors": True},
        )

    def encode(
        self, texts: Sequence[str], on_progress: Callable[[int, int], None] | None = None
    ) -> Float32Array:
        """Vectors ``[len(texts), d]`` of unit length; a text longer than the model's window is cut.

        Args:
            texts: any strings.
            on_progress: told how many of how many missing texts are done.
        """
        if not texts:
            return self._embed([""])[:0]
        known = self._load()
        keys = [_key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        items = list(missing.items())
        for start in range(0, len(items), _SEGMENT):
            segment = items[start : start + _SEGMENT]
            segment_keys = [key for key, _ in segment]
            vectors = self._borrowed(segment_keys)
            if vectors is None:
                vectors = self._embed([text for _, text in segment])
            with readable_os_errors(self._cache):
                self._save(segment_keys, vectors)
            known.update(zip(segment_keys, vectors, strict=True))
            if on_progress is not None:
                on_progress(start + len(segment), len(items))
        return np.stack([known[key] for key in keys])

    def _embed(self, texts: list[str]) -> Float32Array:
        vectors: Float32Array = self._model.encode(
            # Tokenizers take no lone surrogates, which a text cut within a character ends with.
            [text.encode("utf-8", "replace").decode() for text in texts],
            # Padding and the size of a batch change the last bits of a vector. One by one, a text
            # has the same vector whatever is encoded with it: on a CPU that costs little.
            batch_size=1 if self._device == "cpu" else _GPU_BATCH,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        ).astype(np.float32)
        return vectors

    def _load(self) -> dict[bytes, Float32Array]:
        known: dict[bytes, Float32Array] = {}
        for path in sorted(self._cache.glob("*.safetensors")):
            segment = _read_segment(path)
            if segment is None:
                path.unlink()
                continue
            known.update(zip(*segment, strict=True))
        return known

    def _borrowed(self, keys: list[bytes]) -> Float32Array | None:
        for cache in self._others:
            segment = _read_segment(cache / _segment_name(keys))
            if segment is not None and segment[0] == keys:
                return segment[1]
        return None

    def _save(self, keys: list[bytes], vectors: Float32Array) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        hashes = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), 32)
        segment: dict[str, np.ndarray] = {"sha256": hashes.copy(), "vectors": vectors}
        target = self._cache / _segment_name(keys)
        write_aside(target, lambda aside: save_file(segment, aside))


class KnowledgeEncoder:
    """Texts to knowledge vectors: the sentence encoder's, and beside it the catalogue's words.

    Args:
        dense: the frozen text encoder.
        lexical: None for the encoder alone.
    """

    def __init__(self, dense: TextEncoder, lexical: LexicalSpace | None) -> None:
        self._dense = dense
        self._lexical = lexical

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """``[len(texts), d]``: two parts of unit length each, side by side."""
        dense = self._dense.encode(texts)
        if self._lexical is None:
            return dense
        return np.concatenate([dense, self._lexical.encode(texts)], axis=1)


def _segment_name(keys: list[bytes]) -> str:
    return f"{hashlib.sha256(b''.join(keys)).hexdigest()[:16]}.safetensors"


def _read_segment(path: Path) -> tuple[list[bytes], Float32Array] | None:
    """Hashes of the texts and their vectors; None where the file is missing or broken."""
    try:
        segment = load_file(path)
        return [bytes(row) for row in segment["sha256"]], segment["vectors"]
    except (SafetensorError, KeyError, OSError):
        return None


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
