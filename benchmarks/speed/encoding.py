"""Texts to vectors, against sentence-transformers as it comes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rlrf4rec.knowledge.encoder import TextEncoder
from rlrf4rec.knowledge.openvino_encoder import WORST_COSINE
from rlrf4rec.models import encoder_folder
from rlrf4rec.records import Float32Array
from speed.measure import Row, in_turn, rates
from speed.work import texts, world

_ROUNDS = 5
_WARM_UP = 64


def vs_default() -> Row:
    """Every distinct item and history text, end to end and without a cache, on the CPU.

    The peer is ``SentenceTransformer.encode`` with its own batch size, in float32.

    Raises:
        RuntimeError: a vector's cosine to the peer's is below 0.999.
    """
    from sentence_transformers import SentenceTransformer

    items, users = texts()
    # In the order of their length, a warm-up would only meet the short ones.
    some = _shuffled([*items, *users])
    name = world().config.knowledge.encoder
    peer = SentenceTransformer(
        str(encoder_folder(name)), device="cpu", model_kwargs={"use_safetensors": True}
    )
    with TemporaryDirectory() as folder:
        encoder = TextEncoder(name, Path(folder))
        encoder.embed(some[:_WARM_UP])
        peer.encode(some[:_WARM_UP])
        worst = _worst_cosine(encoder.embed(some), peer.encode(some))
        if worst < WORST_COSINE:
            raise RuntimeError(f"a cosine of {worst:.6f} to sentence-transformers' own vector")
        rounds = in_turn(lambda: encoder.embed(some), lambda: peer.encode(some), _ROUNDS)
    return Row(
        "encode_vs_default",
        [peer_seconds / own_seconds for own_seconds, peer_seconds in rounds],
        target=2.0,
        details={
            "texts": float(len(some)),
            **rates("texts", len(some), rounds),
            "worst_cosine": worst,
            "path": encoder.path,
        },
    )


def _shuffled(texts: list[str]) -> list[str]:
    distinct = list(dict.fromkeys(texts))
    return [distinct[place] for place in np.random.default_rng(0).permutation(len(distinct))]


def _worst_cosine(ours: Float32Array, theirs: Float32Array) -> float:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())
