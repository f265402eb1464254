"""Step 1 as a stage: a policy writes N preference texts a user, in shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl

from rlrf4rec.config import Config
from rlrf4rec.generation import Engine, LineWriter, Request, Text, open_engine
from rlrf4rec.generation.base import sample_seed
from rlrf4rec.generation.engines import choose_dtype, choose_engine
from rlrf4rec.models import language_model_folder
from rlrf4rec.prompts import check_structure
from rlrf4rec.stages.shards import clear_shards, finished_users, read_shards, write_shard
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage, StageWriter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLE_SCHEMA = {
    "user": pl.Int32,
    "user_id": pl.String,
    "writer": pl.String,
    "sample": pl.Int32,
    "text": pl.String,
    "n_tokens": pl.Int32,
    "finished": pl.Boolean,
    "structure_ok": pl.Boolean,
    "coverage": pl.Float32,
    "repetition": pl.Float32,
}

MOST_PROMPTS = 4
"""Times `machine.sampling_batch` users that are written for at once: their prompts, too, take room
in the engine's cache."""


def write_texts(
    world: World,
    writer_name: str,
    plan: Mapping[int, int],
    prompts: Stage,
    tuning: Stage | None,
) -> Stage:
    """Sample texts and check their structure.

    Args:
        world: the run.
        writer_name: who writes, such as ``round-0/base``; also the stage's folder.
        plan: how many samples each user gets.
        prompts: the prompts stage.
        tuning: the stage that holds the policy's adapter; None is the untuned LLM.

    Returns:
        A stage with ``samples.parquet``, see `SAMPLE_SCHEMA`; ``text`` begins with the words that
        the prompt gave.
    """
    config = world.config
    name = f"{writer_name}/samples"
    on_progress = world.reporter.start(name, "texts")

    def work(writer: StageWriter) -> None:
        if writer.has("samples.parquet"):
            # Complete; an earlier attempt was killed while it cleared its shards away.
            clear_shards(writer)
            return
        done = finished_users(writer)
        missing = [user for user in sorted(plan) if user not in done]
        total = sum(plan.values())
        if missing:
            written = sum(plan[user] for user in done)
            on_progress(written, total)
            times = _prompts_for_texts(config, plan)
            with _policy(world, tuning) as (engine, tokenizer):
                author = _author(world, engine, tokenizer)
                texts_of = prompts.frame("prompts.parquet")
                for users in _batches(missing, times * config.machine.shard_size):
                    rows = []
                    for batch in _batches(users, times * config.machine.sampling_batch):
                        rows += _sample(
                            world, author, tokenizer, texts_of, writer_name, batch, plan
                        )
                        written += sum(plan[user] for user in batch)
                        on_progress(written, total)
                    frame = pl.DataFrame(rows, schema=SAMPLE_SCHEMA, orient="row")
                    write_shard(writer, users, frame)
        writer.write_frame("samples.parquet", read_shards(writer).sort("user", "sample"))
        clear_shards(writer)

    settings = {
        "generation": config.generation.model_dump(),
        # As it is set: like the device, what a machine makes of "auto" makes no text stale.
        "dtype": config.model.dtype,
        "plan": sorted(plan.items()),
        "seed": config.seed,
    }
    stage = world.workspace.stage(
        name, settings, [prompts] if tuning is None else [prompts, tuning], work
    )
    world.reporter.finish(name, stage.seconds)
    return stage


def _prompts_for_texts(config: Config, plan: Mapping[int, int]) -> int:
    """How many times as many users are written for at once, where each gets fewer texts than N.

    One text for each of 16 users leaves a processor waiting for the weights: 161 texts a minute,
    with 64 users 384 (two cores, SmolLM2-135M in bfloat16). OpenVINO puts off what its cache has no
    room for; transformers would run out of memory.
    """
    if choose_engine(config.machine) != "openvino":
        return 1
    return min(MOST_PROMPTS, max(1, config.generation.n_samples // max(plan.values())))


@contextmanager
def _policy(world: World, tuning: Stage | None) -> Iterator[tuple[Engine, PreTrainedTokenizerBase]]:
    from transformers import AutoTokenizer

    config = world.config
    base = language_model_folder(config.model.name)
    dtype = choose_dtype(config.model, config.machine)
    tokenizer = AutoTokenizer.from_pretrained(base)
    if tuning is None:
        with open_engine(base, config.machine, dtype, keep_export=True) as engine:
            yield engine, tokenizer
        return
    from rlrf4rec.alignment import merge_adapter

    with TemporaryDirectory(prefix="rlrf4rec-policy-") as temporary:
        merge_adapter(base, tuning.folder / "adapter", Path(temporary))
        with open_engine(Path(temporary), config.machine, dtype, keep_export=False) as engine:
            yield engine, tokenizer


def _author(
    world: World, engine: Engine, tokenizer: PreTrainedTokenizerBase
) -> Engine | LineWriter:
    """Who writes a text: the engine in one go, or line by line with each factor's name given."""
    if not world.config.generation.by_line:
        return engine
    template = world.template
    openings = [f"{factor}:" for factor in template.factors[1:]]
    return LineWriter(engine, tokenizer, openings, template.line_forms)


def _sample(
    world: World,
    author: Engine | LineWriter,
    tokenizer: PreTrainedTokenizerBase,
    prompts: pl.DataFrame,
    writer_name: str,
    users: list[int],
    plan: Mapping[int, int],
) -> list[tuple[object, ...]]:
    config = world.config
    ids = [prompts["user_id"][user] for user in users]
    requests = [
        Request(
            tokenizer(prompts["prompt"][user], add_special_tokens=False)["input_ids"],
            [
                sample_seed(config.seed, user_id, writer_name, number)
                for number in range(plan[user])
            ],
        )
        for user, user_id in zip(users, ids, strict=True)
    ]
    rows: list[tuple[object, ...]] = []
    for user, user_id, texts in zip(
        users, ids, author.sample(requests, config.generation), strict=True
    ):
        for number, text in enumerate(texts):
            checked = _checked(world, tokenizer, text)
            rows.append((user, user_id, writer_name, number, *checked))
    return rows


def _checked(
    world: World, tokenizer: PreTrainedTokenizerBase, text: Text
) -> tuple[str, int, bool, bool, float, float]:
    continuation = str(tokenizer.decode(list(text.token_ids), skip_special_tokens=True))
    answer = world.template.first_words + continuation
    report = check_structure(answer, world.template, finished=text.finished)
    return (
        answer,
        len(text.token_ids),
        text.finished,
        report.ok,
        report.coverage,
        report.repetition,
    )


def _batches(users: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(users), size):
        yield users[start : start + size]
