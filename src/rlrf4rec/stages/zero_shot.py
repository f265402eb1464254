"""System ``llm_zero_shot``: the LLM ranks by itself, without a recommender.

It reads its own preference text (the user's first sample, which system ``untuned`` reads, too), is
asked for a title, and a candidate scores by how likely its title is as the answer. A title's bare
likelihood mostly says how short and how well-known it is. Two remedies, each of them or both
(`evaluation.zero_shot_score`): the mean per token; and the difference from the same title's
likelihood when the question comes without the text, the pointwise mutual information of text and
title (Holtzman et al. 2021, *Surface Form Competition*, arXiv 2104.08315).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import polars as pl

from rlrf4rec.generation import open_scorer
from rlrf4rec.generation.engines import choose_dtype
from rlrf4rec.models import language_model_folder
from rlrf4rec.records import CandidateLists, FloatArray, IntArray
from rlrf4rec.stages.prompting import prompt_writer
from rlrf4rec.stages.shards import clear_shards, finished_users, read_shards, write_shard
from rlrf4rec.stages.systems import first_texts
from rlrf4rec.stages.trials import tested_lists
from rlrf4rec.stages.world import World, model_settings
from rlrf4rec.workspace import Stage, StageWriter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rlrf4rec.generation.likelihood import LikelihoodScorer
    from rlrf4rec.prompts import PromptWriter

_TITLES = "titles.parquet"
_PAIRS_SCHEMA = {"user": pl.Int32, "item": pl.Int32, "log_likelihood": pl.Float64}


def read_titles(world: World, samples: Mapping[int, Stage], kind: str) -> Stage:
    """Score every candidate of the tested lists of a kind by its title.

    Args:
        world: the run.
        samples: the untuned LLM's texts, a stage for each half of the users.
        kind: of lists. Each has a stage of its own, so that another one makes no answer stale.

    Returns:
        A stage with ``titles.parquet``: ``item``, ``n_tokens`` and ``log_likelihood`` without any
        preference text; and ``likelihoods-KIND.parquet``: ``log_likelihood`` after the user's text,
        a row for each tested list in their order, a number for each candidate. In nats. Neither
        names a user, so that both may be published.
    """
    config = world.config
    own = kind == config.lists.kind
    name = "evaluation/zero-shot" if own else f"evaluation/{kind}/zero-shot"
    on_progress = world.reporter.start(name, "users")

    def work(writer: StageWriter) -> None:
        if writer.has(_file(kind)):
            # Complete; an earlier attempt was killed while it cleared its shards away.
            clear_shards(writer)
            return
        candidates = _candidates(_tested(world, kind))
        users = sorted(candidates)
        done = finished_users(writer)
        missing = [user for user in users if user not in done]
        if missing:
            on_progress(len(done), len(users))
            titles = _Titles(world)
            if not writer.has(_TITLES):
                writer.write_frame(_TITLES, titles.without_text(_distinct(candidates)))
            texts = first_texts(world, samples)
            for start in range(0, len(missing), config.machine.shard_size):
                some = missing[start : start + config.machine.shard_size]
                rows = []
                for number, user in enumerate(some, start + 1):
                    found = titles.score(texts.get(user, ""), candidates[user])
                    rows += [(user, *row) for row in zip(candidates[user], found, strict=True)]
                    on_progress(len(done) + number, len(users))
                frame = pl.DataFrame(rows, schema=_PAIRS_SCHEMA, orient="row")
                write_shard(writer, some, frame)
        writer.write_frame(_file(kind), _by_list(_tested(world, kind), read_shards(writer)))
        clear_shards(writer)

    settings = {
        "model": model_settings(config.model),
        "ranking": world.template.ranking.model_dump(),
        "kinds": [kind],
    }
    needs = [*world.list_stages(kind), *samples.values()]
    stage = world.workspace.stage(name, settings, needs, work)
    world.reporter.finish(name, stage.seconds)
    return stage


def zero_shot_scores(world: World, stage: Stage, kind: str) -> FloatArray:
    """Scores of the tested lists, ``[n, l]``, from a stage of `read_titles`."""
    items = _tested(world, kind).items
    after_text = np.array(stage.frame(_file(kind))["log_likelihood"].to_list()).reshape(items.shape)
    titles = stage.frame(_TITLES)
    row = np.zeros(world.dataset.n_items, dtype=np.int64)
    row[titles["item"].to_numpy()] = np.arange(titles.height)
    without_text = titles["log_likelihood"].to_numpy()[row[items]]
    n_tokens = titles["n_tokens"].to_numpy()[row[items]]
    score = world.config.evaluation.zero_shot_score
    return title_scores(after_text, without_text, n_tokens, score)


def title_scores(
    after_text: FloatArray, without_text: FloatArray, n_tokens: IntArray, score: str
) -> FloatArray:
    """A title's score from its log-likelihoods.

    Args:
        after_text: after the user's text, any shape; also the result's.
        without_text: after the same question without it.
        n_tokens: the title's tokens.
        score: ``sum``, ``mean`` (per token), ``pmi`` (minus the one without text), ``pmi_mean``.

    Example:
        A title of 4 tokens at -20 after the text and -24 without it: ``sum`` -20, ``mean`` -5,
        ``pmi`` 4, ``pmi_mean`` 1.
    """
    scores = after_text - without_text if score.startswith("pmi") else after_text
    return scores / n_tokens if score.endswith("mean") else scores


class _Titles:
    """The catalogue's titles as answers of the untuned LLM."""

    def __init__(self, world: World) -> None:
        from transformers import AutoTokenizer

        config = world.config
        folder = language_model_folder(config.model.name)
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        dtype = choose_dtype(config.model, config.machine)
        self._scorer: LikelihoodScorer = open_scorer(folder, config.machine, dtype)
        self._prompter: PromptWriter = prompt_writer(config, world.template, self._tokenizer)
        first_words = world.template.ranking.first_words
        given = len(self._ids(first_words))
        # Split together with the words before it: a tokenizer may treat a text's start apart.
        self._answers = [
            self._ids(f"{first_words} {self._prompter.clean(title)}")[given:]
            for title in world.dataset.items["title"]
        ]

    def score(self, text: str, items: Sequence[int]) -> FloatArray:
        """Log-likelihoods of the items' titles after a user's text, ``[len(items)]``."""
        prompt = self._ids(self._prompter.write_ranking(text))
        return self._scorer.score(prompt, [self._answers[item] for item in items])

    def without_text(self, items: Sequence[int]) -> pl.DataFrame:
        """The titles by themselves: ``item``, ``n_tokens``, ``log_likelihood``."""
        return pl.DataFrame(
            {
                "item": items,
                "n_tokens": [len(self._answers[item]) for item in items],
                "log_likelihood": self.score("", items),
            },
            schema_overrides={"item": pl.Int32, "n_tokens": pl.Int32},
        )

    def _ids(self, text: str) -> list[int]:
        return cast(list[int], self._tokenizer(text, add_special_tokens=False)["input_ids"])


def _tested(world: World, kind: str) -> CandidateLists:
    return world.lists(kind).select(tested_lists(world, kind))


def _candidates(lists: CandidateLists) -> dict[int, list[int]]:
    """Each user's distinct candidates, ascending."""
    found: dict[int, set[int]] = {}
    for user, items in zip(lists.user.tolist(), lists.items.tolist(), strict=True):
        found.setdefault(user, set()).update(items)
    return {user: sorted(items) for user, items in found.items()}


def _distinct(candidates: Mapping[int, Sequence[int]]) -> list[int]:
    return sorted(set().union(*candidates.values()))


def _by_list(lists: CandidateLists, pairs: pl.DataFrame) -> pl.DataFrame:
    """``log_likelihood``: a row a list, a number a candidate."""
    known = {(user, item): value for user, item, value in pairs.iter_rows()}
    values = [
        [known[user, item] for item in items]
        for user, items in zip(lists.user.tolist(), lists.items.tolist(), strict=True)
    ]
    return pl.DataFrame({"log_likelihood": values}, schema={"log_likelihood": pl.List(pl.Float64)})


def _file(kind: str) -> str:
    return f"likelihoods-{kind}.parquet"
