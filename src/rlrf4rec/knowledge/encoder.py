"""The frozen text encoder: texts to vectors, each text encoded once in a run.

The cache is a folder of segments; each segment is one safetensors file, written aside and renamed,
with the texts' SHA-256 beside their vectors. A broken segment is dropped and encoded again.
"""

from __future__ import annotations

import hashlib
import time
from collections import ChainMap
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from rlrf4rec.knowledge.lexical import LexicalSpace
from rlrf4rec.knowledge.torch_encoder import TorchEncoder
from rlrf4rec.models import encoder_folder
from rlrf4rec.progress import Reporter, Silent
from rlrf4rec.records import Float32Array
from rlrf4rec.workspace import fingerprint, readable_os_errors, write_aside

TORCH = "torch"
OPENVINO = "openvino-"

_SEGMENT = 4096
_STAGE = "vectors"


class _Model(Protocol):
    """A loaded encoder."""

    def embed(self, texts: list[str]) -> Float32Array:
        """``[len(texts), d]``, of unit length."""


class TextEncoder:
    """A sentence-transformers model with a cache by text.

    Args:
        name: the encoder, see `rlrf4rec.models`.
        cache: folder of the cached vectors; it belongs to this encoder and its `path` alone.
        device: ``cpu`` or ``cuda``.
        others: caches of other runs with this encoder. A segment of theirs is taken over when it
            holds exactly the texts that would be encoded together here, so that every vector is,
            to the last bit, what this run would have computed.
        reporter: hears of many texts that are not in the cache.
    """

    def __init__(
        self,
        name: str,
        cache: Path,
        device: str = "cpu",
        others: Sequence[Path] = (),
        reporter: Reporter | None = None,
    ) -> None:
        self._name = name
        self._cache = cache
        self._device = device
        self._others = tuple(others)
        self._reporter = reporter or Silent()
        self._stored: dict[bytes, Float32Array] | None = None

    @property
    def path(self) -> str:
        """See `encoding_path`."""
        return encoding_path(self._device)

    @cached_property
    def _model(self) -> _Model:
        folder = encoder_folder(self._name)
        if self.path == TORCH:
            return TorchEncoder(folder, self._device)
        from rlrf4rec.knowledge.openvino_encoder import open_exported

        return open_exported(folder, self.path.removeprefix(OPENVINO))

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Vectors ``[len(texts), d]`` of unit length; a text longer than the model's window is cut.

        Args:
            texts: any strings.
        """
        if not texts:
            return self.embed([""])[:0]
        stored = self._cached() if self._stored is None else self._stored
        known = ChainMap({}, stored)
        keys = [_key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        items = list(missing.items())
        for segment in self._segments(items):
            segment_keys = [key for key, _ in segment]
            vectors = self._borrowed(segment_keys)
            if vectors is None:
                vectors = self.embed([text for _, text in segment])
            if self._stored is None:
                with readable_os_errors(self._cache):
                    self._save(segment_keys, vectors)
            known.update(zip(segment_keys, vectors, strict=True))
        return np.stack([known[key] for key in keys])

    def _segments(self, items: list[tuple[bytes, str]]) -> Iterator[list[tuple[bytes, str]]]:
        """Parts that are encoded together; of several, the reporter hears."""
        heard = self._reporter if len(items) > _SEGMENT else Silent()
        begun = time.monotonic()
        on_progress = heard.start(_STAGE, "texts")
        for start in range(0, len(items), _SEGMENT):
            on_progress(start, len(items))
            yield items[start : start + _SEGMENT]
        on_progress(len(items), len(items))
        heard.finish(_STAGE, time.monotonic() - begun)

    def stop_storing(self) -> None:
        """From now on know what the cache holds, once and for all, and add nothing to it."""
        self._stored = self._cached()

    def embed(self, texts: list[str]) -> Float32Array:
        """`encode` without the cache."""
        # Tokenizers take no lone surrogates, which a text cut within a character ends with.
        return self._model.embed([text.encode("utf-8", "replace").decode() for text in texts])

    def _cached(self) -> dict[bytes, Float32Array]:
        known: dict[bytes, Float32Array] = {}
        # Names that begin with a dot are of files that somebody is writing.
        for path in sorted(self._cache.glob("[!.]*.safetensors")):
            segment = _read_segment(path)
            if segment is None:
                path.unlink(missing_ok=True)
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

    def stop_storing(self) -> None:
        """See `TextEncoder.stop_storing`."""
        self._dense.stop_storing()

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """``[len(texts), d]``: two parts of unit length each, side by side."""
        dense = self._dense.encode(texts)
        if self._lexical is None:
            return dense
        return np.concatenate([dense, self._lexical.encode(texts)], axis=1)


def encoding_path(device: str) -> str:
    """How texts are encoded here: ``torch``, ``openvino-bf16`` or ``openvino-f32``.

    The same text has different vectors on different paths, in the last bits or in the fourth
    decimal: vectors of several do not belong into one cache.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    if device != "cpu":
        return TORCH
    from rlrf4rec.knowledge.openvino_encoder import best_precision, is_installed

    return f"{OPENVINO}{best_precision()}" if is_installed() else TORCH


def cache_name(encoder: str, path: str) -> str:
    """The folder of an encoder's vectors that were computed on a path."""
    name = fingerprint(encoder)[:12]
    return name if path == TORCH else f"{name}-{path}"


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
