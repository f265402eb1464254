"""Step 1 as a stage: a policy writes N preference texts a user, in shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl

from rlrf4rec.generation import Engine, Part, Request, Text, line_parts, open_engine
from rlrf4rec.generation.base import sample_seed
from rlrf4rec.generation.engines import choose_dtype
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
            with _policy(world, tuning) as (engine, tokenizer):
                rows = _rows(world, engine, tokenizer, prompts, writer_name, missing, plan)
                for users in _batches(missing, config.machine.shard_size):
                    shard: list[tuple[object, ...]] = []
                    for user in users:
                        shard += next(rows)
                        written += plan[user]
                        on_progress(written, total)
                    frame = pl.DataFrame(shard, schema=SAMPLE_SCHEMA, orient="row")
                    write_shard(writer, users, frame)
        writer.write_frame("samples.parquet", read_shards(writer).sort("user", "sample"))
        clear_shards(writer)

    settings = {
        # For whom is in the plan.
        "generation": config.generation.model_dump(exclude={"max_users"}),
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


@contextmanager
def _policy(world: World, tuning: Stage | None) -> Iterator[tuple[Engine, PreTrainedTokenizerBase]]:
    from transformers import AutoTokenizer

    config = world.config
    base = language_model_folder(config.model.name)
    dtype = choose_dtype(config.model, config.machine)
    tokenizer = AutoTokenizer.from_pretrained(base)
    if tuning is None:
        with open_engine(base, config.machine, dtype) as engine:
            yield engine, tokenizer
        return
    from rlrf4rec.alignment import merge_adapter

    with TemporaryDirectory(prefix="rlrf4rec-policy-") as temporary:
        merge_adapter(base, tuning.folder / "adapter", Path(temporary))
        with open_engine(Path(temporary), config.machine, dtype, tuned_from=base) as engine:
            yield engine, tokenizer


def _rows(
    world: World,
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Stage,
    writer_name: str,
    users: Sequence[int],
    plan: Mapping[int, int],
) -> Iterator[list[tuple[object, ...]]]:
    """Each user's texts as rows of `SAMPLE_SCHEMA`, written as they are asked for."""
    config, frame = world.config, prompts.frame("prompts.parquet")
    ids = world.dataset.users["user_id"]
    prompt_of = dict(frame.select("user", "prompt").iter_rows())
    requests = (
        Request(
            tokenizer(prompt_of[user], add_special_tokens=False)["input_ids"],
            [
                sample_seed(config.seed, ids[user], writer_name, number)
                for number in range(plan[user])
            ],
        )
        for user in users
    )
    written = engine.sample(requests, config.generation, _parts(world, tokenizer))
    for user, texts in zip(users, written, strict=True):
        yield [
            (user, ids[user], writer_name, number, *_checked(world, tokenizer, text))
            for number, text in enumerate(texts)
        ]


def _parts(world: World, tokenizer: PreTrainedTokenizerBase) -> Sequence[Part]:
    """A text's lines, each with its factor's name given, or all of it in one go."""
    config = world.config.generation
    if not config.by_line:
        return [Part(config.max_new_tokens)]
    openings = [f"{factor}:" for factor in world.template.factors[1:]]
    return line_parts(tokenizer, openings, config.max_new_tokens, world.template.line_forms)


def _checked(
    world: World, tokenizer: PreTrainedTokenizerBase, text: Text
) -> tuple[str, int, bool, bool, float, float]:
    first_words = world.template.first_words
    answer = first_words + continuation(tokenizer, first_words, text.token_ids)
    report = check_structure(answer, world.template, finished=text.finished)
    return (
        answer,
        len(text.token_ids),
        text.finished,
        report.ok,
        report.coverage,
        report.repetition,
    )


def continuation(
    tokenizer: PreTrainedTokenizerBase, first_words: str, token_ids: Sequence[int]
) -> str:
    """What the tokens say behind the first words: by themselves, some tokenizers' lose a space."""
    given = tokenizer(first_words, add_special_tokens=False)["input_ids"]
    before, whole = (
        str(tokenizer.decode(ids, skip_special_tokens=True))
        for ids in (given, [*given, *token_ids])
    )
    return whole[len(before) :]


def _batches(users: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(users), size):
        yield users[start : start + size]
