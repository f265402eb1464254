"""The default engine on a CPU: OpenVINO GenAI's continuous batching.

A user's samples are separate sequences with their own seeds, which find the prompt in the prefix
cache (`openvino_pool`). Texts do not depend on what is written beside them, not even in bfloat16
(tests/generation/test_engines.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rlrf4rec.config import GenerationConfig
from rlrf4rec.errors import MissingPartError
from rlrf4rec.generation.base import Part, Request, Text
from rlrf4rec.generation.openvino_pool import LEAST_SEQUENCES, MAX_ROWS, Pool
from rlrf4rec.openvino_export import export

_MAX_BATCHED_TOKENS = 2048


class OpenVINOEngine:
    """Samples from an exported model.

    Args:
        folder: a folder made by `export_openvino`.
        dtype: ``float32`` or ``bfloat16``; the precision of the computation.
        eos_token_ids: tokens that end a text.
        cache_gb: room for keys and values; it decides how many users are written for at once.
    """

    def __init__(
        self, folder: Path, dtype: str, eos_token_ids: Sequence[int], cache_gb: int = 1
    ) -> None:
        try:
            import openvino_genai
        except ImportError as error:
            raise MissingPartError(
                "the package openvino-genai",
                found=str(error),
                remedy="Run: pip install 'rlrf4rec[openvino]', or set machine.engine=transformers.",
            ) from error
        self._genai = openvino_genai
        self._eos = frozenset(eos_token_ids)
        self._max_tokens = cache_gb * 2**30 // _token_bytes(folder, dtype)
        self._numbers = itertools.count()
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = cache_gb
        scheduler.enable_prefix_caching = True
        scheduler.max_num_batched_tokens = _MAX_BATCHED_TOKENS
        scheduler.max_num_seqs = 2 * MAX_ROWS + LEAST_SEQUENCES
        hint = {"float32": "f32", "bfloat16": "bf16"}[dtype]
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(folder), scheduler, "CPU", {"INFERENCE_PRECISION_HINT": hint}
        )

    def sample(
        self,
        requests: Iterable[Request],
        settings: GenerationConfig,
        parts: Sequence[Part],
    ) -> Iterator[list[Text]]:
        """See `Engine.sample`."""

        def begin(ids: Sequence[int], seed: int, tokens: int, ends: frozenset[int]) -> object:
            return self._begin(ids, self._settings(settings, seed, tokens, ends))

        return Pool(self._pipeline, begin, self._eos, parts, self._max_tokens).write(requests)

    def _begin(self, ids: Sequence[int], settings: object) -> object:
        import openvino

        tensor = openvino.Tensor(np.asarray([ids], dtype=np.int64))
        return self._pipeline.add_request(next(self._numbers), tensor, settings)

    def _settings(
        self, settings: GenerationConfig, seed: int, max_new_tokens: int, ends: frozenset[int]
    ) -> object:
        generation = self._genai.GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=True,
            temperature=settings.temperature,
            top_p=settings.top_p,
            rng_seed=seed,
            apply_chat_template=False,
        )
        generation.stop_token_ids = set(ends)
        return generation


def _token_bytes(folder: Path, dtype: str) -> int:
    """Keys and values of one token in all layers."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    units = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    number = {"float32": 4, "bfloat16": 2}[dtype]
    return int(2 * config.num_hidden_layers * heads * units * number)


def export_openvino(model_folder: Path, output: Path) -> None:
    """Export a Hugging Face model folder to OpenVINO's format.

    Raises:
        MissingPartError: the package optimum-intel is not installed.
    """
    try:
        export("OVModelForCausalLM", model_folder, output)
    except ImportError as error:
        raise MissingPartError(
            "the package optimum-intel",
            found=str(error),
            remedy="Run: pip install 'rlrf4rec[openvino]', or set machine.engine=transformers.",
        ) from error
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(model_folder).save_pretrained(output)
