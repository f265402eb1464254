"""The text encoder as sentence-transformers runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlrf4rec.records import Float32Array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_GPU_BATCH = 64


class TorchEncoder:
    """Vectors from the model itself.

    Args:
        folder: sentence-transformers' layout.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._sentence = load_sentence_transformer(folder, device)
        # Padding and the size of a batch change the last bits of a vector. One by one, a text has
        # the same vector whatever is encoded with it.
        self._batch_size = 1 if device == "cpu" else _GPU_BATCH

    def embed(self, texts: list[str]) -> Float32Array:
        """``[len(texts), d]``, of unit length."""
        vectors: Float32Array = self._sentence.encode(
            texts,
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        ).astype(np.float32)
        return vectors


def load_sentence_transformer(folder: Path, device: str) -> SentenceTransformer:
    """Load a model from safetensors.

    Args:
        folder: sentence-transformers' layout.
        device: ``cpu`` or ``cuda``.
    """
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device=device, model_kwargs={"use_safetensors": True})
