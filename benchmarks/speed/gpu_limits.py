"""The share of what a GPU could do at most that sampling and tuning reach."""

from __future__ import annotations

import polars as pl
import torch
from transformers import AutoConfig

from speed.limit import Product, copy_bytes_per_second, layer_shapes, product_seconds
from speed.measure import Row
from speed.sampling import N_SAMPLES, Work, Writing, products, tokens_to_read, written
from speed.tuning import Tuning, tokens_read, tune_ours
from speed.work import model_folder

PASSES = 3
"""Of DPO: the reference forward, the policy forward, and the gradient of what each product reads,
which is a product of the same size. Frozen weights get no gradient of their own."""

_COPIED = {"cpu": 2**26, "cuda": 2**31}
"""Bytes that no cache holds and that take much longer than to say so."""


def sampling(writing: Writing) -> Row:
    """The slower of two limits, the same texts written: products, and bytes.

    Products: those of the forward passes as `speed.sampling.products` counts them, at the speed of
    such products in the same type. Bytes: all weights once for the prompts and once a step, and at
    each step the keys and values so far, each prompt's once for all of its texts, at the speed of a
    copy. Neither counts attention's own operations, activations and the drawing of tokens.
    """
    device, shares, details = writing.device, [], dict[str, float | str]()
    copied = copy_bytes_per_second(_COPIED[device.name], device.name)
    for work, tokens, took in written(writing):
        steps = tokens / (len(work.prompts) * N_SAMPLES)
        by_products = product_seconds(
            products(work, steps), getattr(torch, device.dtype), device.name
        )
        by_bytes = _bytes(work, steps, getattr(torch, device.dtype)) / copied
        shares.append(max(by_products, by_bytes) / took)
        details = {
            "tokens_per_second": tokens / took,
            "limit_tokens_per_second_products": tokens / by_products,
            "limit_tokens_per_second_bytes": tokens / by_bytes,
            "copied_bytes_per_second": copied,
        }
    return Row("gpu_sample_vs_limit", shares, 0.5, unit="of the limit", details=details)


def _bytes(work: Work, steps: float, dtype: torch.dtype) -> float:
    config = AutoConfig.from_pretrained(model_folder())
    head = config.hidden_size // config.num_attention_heads
    of_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head
    weights = config.num_hidden_layers * sum(k * n for k, n in layer_shapes(config))
    weights += config.hidden_size * config.vocab_size
    # At the mean over all steps, half of a text is written.
    own = len(work.prompts) * N_SAMPLES * steps / 2
    numbers = weights * (steps + 1) + steps * of_token * (tokens_to_read(work) + own)
    return float(numbers * dtype.itemsize)


def tuning(work: Tuning) -> Row:
    """The products of `PASSES` passes over the packed rows, at the speed of such products.

    Counted for each pair: its prompt once, both answers, the head for the answers' tokens only.
    Padding, attention itself, the adapter, the loss and the optimizer are not.
    """
    dtype, shares, details = getattr(torch, work.device.dtype), [], dict[str, float | str]()
    for number in range(work.rounds):
        pairs = work.pairs(number)
        rate = tune_ours(pairs, work)[1]
        a_step = _step_products(pairs, work)
        limit = work.pairs_a_step / product_seconds(a_step, dtype, work.device.name)
        shares.append(rate / limit)
        operations = sum(one.operations for one in a_step) / work.pairs_a_step
        details = {
            "pairs_per_second": rate,
            "limit_pairs_per_second": limit,
            "operations_per_second": rate * operations,
            "limit_operations_per_second": limit * operations,
        }
    return Row("gpu_dpo_vs_limit", shares, 0.5, unit="of the limit", details=details)


def _step_products(pairs: pl.DataFrame, work: Tuning) -> list[Product]:
    """Of a mean step."""
    tokens, answers = (round(count / work.steps) for count in tokens_read(pairs))
    config = AutoConfig.from_pretrained(model_folder())
    times = PASSES * config.num_hidden_layers
    head = Product(answers, config.hidden_size, config.vocab_size, PASSES)
    return [*(Product(tokens, k, n, times) for k, n in layer_shapes(config)), head]
