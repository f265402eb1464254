"""Words in common: the part of a text's vector that tells which of the catalogue's words it says.

A sentence encoder hears what a short text is about, and blurs the very words that stand in the
catalogue: genres, brands, makers. So a text is also described by its TF-IDF weights of the
catalogue's words, brought to their leading directions (latent semantic analysis; Deerwester et al.,
1990). User and item texts share the space, so a match of two vectors is a lexical match.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from rlrf4rec.records import Float32Array

MAX_WORDS = 20_000
"""Most frequent words of the catalogue that are kept."""

_YEAR = re.compile(r"\b((?:1[89]|20)\d)\d\b")


class LexicalSpace:
    """Maps texts to the leading directions of the catalogue's words.

    Nothing is stored: the same catalogue gives the same space.

    Args:
        catalogue: the items' texts, which say what words there are.
        dim: directions wanted; a small catalogue has fewer.
    """

    def __init__(self, catalogue: Sequence[str], dim: int) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        # A word of a single item cannot be shared by two.
        self._weights = TfidfVectorizer(
            preprocessor=_prepare, sublinear_tf=True, min_df=2, max_features=MAX_WORDS
        )
        try:
            counted = self._weights.fit_transform(catalogue)
        except ValueError:
            # No word stands in two items.
            self.dim = 0
            return
        self.dim = min(dim, min(counted.shape) - 1)
        if self.dim > 0:
            self._directions = TruncatedSVD(self.dim, random_state=0).fit(counted)

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """``[len(texts), dim]``, of unit length; zero for a text without the catalogue's words."""
        if self.dim <= 0 or not texts:
            return np.zeros((len(texts), max(self.dim, 0)), dtype=np.float32)
        placed = self._directions.transform(self._weights.transform(texts))
        length = np.linalg.norm(placed, axis=1, keepdims=True)
        unit: Float32Array = (placed / np.where(length > 0, length, 1.0)).astype(np.float32)
        return unit


def _prepare(text: str) -> str:
    """Lower case; a year also counts as its decade: "1994" says "1994 1990s"."""
    return _YEAR.sub(r"\g<0> \g<1>0s", text.lower())
