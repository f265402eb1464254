"""The text encoder on a CPU: its transformer in OpenVINO, in bfloat16 where the CPU has it.

The house rule holds here, too: the same text has the same vector to the last bit, whatever is
encoded with it. Padding would break it, so texts of one length in tokens are encoded together. The
size of a batch changes nothing on the processors that we know; each encoder tries it before its
first texts, and where it does, sizes follow from the length alone and the last batch is filled up.
Each stream has one thread, so that the number of cores changes nothing
(tests/knowledge/test_encoder.py).
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrf4rec.knowledge.torch_encoder import TorchEncoder, load_sentence_transformer
from rlrf4rec.openvino_export import cached_export, export
from rlrf4rec.records import Float32Array
from rlrf4rec.say_once import say_once

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WORST_COSINE = 0.999
"""An export whose vectors are further from sentence-transformers' own is not used."""

_BATCH_TOKENS = 1024
"""Tokens in a batch: a single short text leaves the processor waiting for the weights. 2,597 texts
at 64, 128, 256, 512 and 1,024: 14.1, 14.5, 13.8, 11.5 and 10.9 s in bfloat16 on two cores of an AMD
EPYC, 20.7, 22.1, 21.0, 18.2 and 17.9 s in float32."""

_TRIED_LENGTHS, _TRIED_TEXTS = (8, 64), (1, 5)
"""Texts so long are tried in batches of so many and in a full one."""

_UNFIT = "unfit.txt"
_MODEL = "openvino_model.xml"
_SAMPLES = (
    "Toy Story (Animation, Children's, Comedy; 1995)",
    " a text that begins with a space, and Ends in CAPITALS",
    "Amélie 千と千尋",
    "",
    "love stories " * 400,
)


class OpenVINOEncoder:
    """Vectors from an exported transformer; all around it is sentence-transformers' own.

    Args:
        sentence: the model that was exported: tokenizer, window and pooling are taken from it.
        exported: the folder of the export.
        precision: ``bf16`` or ``f32``.
    """

    def __init__(self, sentence: SentenceTransformer, exported: Path, precision: str) -> None:
        import openvino
        import torch

        self._sentence = sentence
        streams = torch.get_num_threads()
        compiled = openvino.Core().compile_model(
            exported / _MODEL,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams,
            },
        )
        self._inputs = {port.get_any_name() for port in compiled.inputs}
        # Twice as many as streams: none waits while a result is pooled.
        self._requests = [compiled.create_infer_request() for _ in range(2 * streams)]

    def embed(self, texts: list[str]) -> Float32Array:
        """``[len(texts), d]``, of unit length."""
        tokens = self._tokens(texts)
        rows: dict[int, Float32Array] = {}
        free, busy = list(self._requests), deque[tuple[Any, list[int]]]()

        def collect() -> None:
            request, places = busy.popleft()
            request.wait()
            pooled = self._pooled(request.get_output_tensor(0).data)
            rows.update(zip(places, pooled, strict=False))  # what fills a batch up has no place
            free.append(request)

        for places, ids in _batches(tokens, fill=not self._sizes_are_alike):
            if not free:
                collect()
            request = free.pop()
            request.start_async(self._feed(ids))
            busy.append((request, places))
        while busy:
            collect()
        return np.stack([rows[place] for place in range(len(texts))])

    @functools.cached_property
    def _sizes_are_alike(self) -> bool:
        """Whether a text's states are the same to the last bit in a batch of any size, here."""
        request, rng = self._requests[0], np.random.default_rng(0)

        def states(ids: np.ndarray) -> np.ndarray:
            request.infer(self._feed(ids))
            return np.array(request.get_output_tensor(0).data)

        for length in _TRIED_LENGTHS:
            size = _BATCH_TOKENS // length
            ids = rng.integers(self._sentence.tokenizer.vocab_size, size=(size, length))
            full = states(ids)
            if any(not np.array_equal(states(ids[:n]), full[:n]) for n in _TRIED_TEXTS):
                _say_slower("here a vector depends on the size of a batch, so all are filled up")
                return False
        return True

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        tokens: list[list[int]] = self._sentence.tokenizer(
            texts, truncation=True, max_length=self._sentence.max_seq_length
        )["input_ids"]
        return tokens

    def _feed(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        feed = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
            "position_ids": np.broadcast_to(np.arange(ids.shape[1]), ids.shape).copy(),
        }
        return {name: feed[name] for name in self._inputs}

    def _pooled(self, states: np.ndarray) -> Float32Array:
        """``[b, l, d]``, the states of unpadded texts, to vectors ``[b, d]``."""
        import torch

        with torch.inference_mode():
            features: dict[str, torch.Tensor] = {
                "token_embeddings": torch.from_numpy(states),
                "attention_mask": torch.ones(states.shape[:2], dtype=torch.int64),
            }
            for module in list(self._sentence.children())[1:]:
                features = module(features)
            unit = torch.nn.functional.normalize(features["sentence_embedding"], dim=1)
        vectors: Float32Array = unit.numpy().astype(np.float32)
        return vectors


def open_exported(folder: Path, precision: str) -> OpenVINOEncoder | TorchEncoder:
    """The encoder in OpenVINO, exported once and kept in the cache.

    One that cannot be exported runs in torch, as it would here every time; the log says why.

    Args:
        folder: sentence-transformers' layout.
        precision: ``bf16`` or ``f32``.

    Raises:
        WorkspaceError: the cache is full or cannot be written to. That is of this moment and not of
            the encoder: in torch, this run's vectors would be others than the next one's.
    """
    exported = cached_export(
        folder, lambda output: _export(folder, output, precision), f"encoder-{precision}-"
    )
    unfit = exported / _UNFIT
    if unfit.exists():
        _say_slower(
            f"it runs in torch, since {folder.name} cannot be exported: "
            f"{unfit.read_text(encoding='utf-8')}"
        )
        return TorchEncoder(folder, "cpu")
    return OpenVINOEncoder(load_sentence_transformer(folder, "cpu"), exported, precision)


def is_installed() -> bool:
    """Whether OpenVINO and its exporter are; the log says where they are not."""
    for package in ("openvino", "optimum", "optimum.intel"):
        if importlib.util.find_spec(package) is None:
            _say_slower(
                f"it runs in torch, since {package} is not installed "
                "(pip install 'rlrf4rec[openvino]')"
            )
            return False
    return True


@functools.cache
def best_precision() -> str:
    """``bf16`` where the processor computes in it, else ``f32``."""
    import openvino

    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in able else "f32"


def _say_slower(reason: str) -> None:
    say_once(f"The text encoder is slower than it could be: {reason}", logging.INFO)


def _export(source: Path, output: Path, precision: str) -> None:
    """Export the transformer; where that fails, leave a note that says why in its place."""
    try:
        export("OVModelForFeatureExtraction", source, output)
        _check(source, output, precision)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # any model may fail in any way: torch has all
        (output / _UNFIT).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")


def _check(source: Path, exported: Path, precision: str) -> None:
    """Compare some vectors with sentence-transformers' own.

    Raises:
        ValueError: they differ.
    """
    sentence = load_sentence_transformer(source, "cpu")
    if sentence.default_prompt_name is not None:
        raise ValueError(f"it puts a prompt before every text: {sentence.default_prompt_name}")
    texts = list(_SAMPLES)
    expected = sentence.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    found = OpenVINOEncoder(sentence, exported, precision).embed(texts)
    worst = float((expected * found).sum(axis=1).min())
    if not worst >= WORST_COSINE:
        raise ValueError(f"a cosine of {worst:.4f} to sentence-transformers' own vector")


def _batches(tokens: Sequence[list[int]], *, fill: bool) -> Iterator[tuple[list[int], np.ndarray]]:
    """Places of texts of one length, and their token ids ``[b, l]``.

    With ``fill``, `b` follows from `l`: the last texts have copies of the first of them beside.
    """
    by_length: dict[int, list[int]] = {}
    for place, ids in enumerate(tokens):
        by_length.setdefault(len(ids), []).append(place)
    # Sorted: shapes that are new take a moment, and the longest texts last would wait alone.
    for length, places in sorted(by_length.items(), reverse=True):
        size = max(1, _BATCH_TOKENS // length)
        for start in range(0, len(places), size):
            part = places[start : start + size]
            filled = part + part[:1] * (size - len(part) if fill else 0)
            yield part, np.array([tokens[place] for place in filled], dtype=np.int64)
