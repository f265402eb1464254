"""The default engine on a CPU: OpenVINO GenAI's continuous batching.

A user's samples are separate requests with their own seeds. They share the prompt's cache: the
prompt is read once, by a first pass that asks for one token, and is found in the prefix cache by
every sample. Paged attention computes each row by itself, so that the texts do not depend on the
batch, not even in bfloat16 (tests/generation/test_engines.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from rlrf4rec.config import GenerationConfig
from rlrf4rec.errors import MissingPartError
from rlrf4rec.generation.base import Request, Text, text_of
from rlrf4rec.openvino_export import export

_MAX_BATCHED_TOKENS = 2048
_MAX_SEQUENCES = 256


class OpenVINOEngine:
    """Samples from an exported model.

    Args:
        folder: a folder made by `export_openvino`.
        dtype: ``float32`` or ``bfloat16``; the precision of the computation.
        eos_token_ids: tokens that end a text.
        cache_gb: room for keys and values; with too little of it, texts are put off, not changed.
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
        self._eos = set(eos_token_ids)
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = cache_gb
        scheduler.enable_prefix_caching = True
        scheduler.max_num_batched_tokens = _MAX_BATCHED_TOKENS
        scheduler.max_num_seqs = _MAX_SEQUENCES
        hint = {"float32": "f32", "bfloat16": "bf16"}[dtype]
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(folder), scheduler, "CPU", {"INFERENCE_PRECISION_HINT": hint}
        )

    def sample(
        self,
        requests: Sequence[Request],
        settings: GenerationConfig,
        stop_ids: Collection[int] = (),
    ) -> list[list[Text]]:
        """See `Engine.sample`."""
        if not requests:
            return []
        import openvino

        ends = self._eos.union(stop_ids)
        prompts = [
            openvino.Tensor(np.asarray([request.prompt_ids], dtype=np.int64))
            for request in requests
        ]
        # Single samples, too, so that every text starts from the cache: in bfloat16 the last bit of
        # what a prompt leaves behind depends on whether it is read at once or found there.
        unread = [
            prompt for prompt, request in zip(prompts, requests, strict=True) if not request.written
        ]
        if unread:
            first = self._settings(settings, 0, 1, ends)
            self._pipeline.generate(unread, [first] * len(unread))
        flat = [
            (prompt, self._settings(settings, seed, settings.max_new_tokens, ends))
            for prompt, request in zip(prompts, requests, strict=True)
            for seed in request.seeds
        ]
        results = self._pipeline.generate([prompt for prompt, _ in flat], [c for _, c in flat])
        texts = iter([text_of(result.m_generation_ids[0], ends) for result in results])
        return [[next(texts) for _ in request.seeds] for request in requests]

    def _settings(
        self, settings: GenerationConfig, seed: int, max_new_tokens: int, ends: set[int]
    ) -> object:
        generation = self._genai.GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=True,
            temperature=settings.temperature,
            top_p=settings.top_p,
            rng_seed=seed,
            apply_chat_template=False,
        )
        generation.stop_token_ids = ends
        return generation


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
