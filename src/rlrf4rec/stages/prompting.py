"""From users to prompts: what of a log and its settings the LLM reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from rlrf4rec.config import Config
from rlrf4rec.data.seeds import stable_hash
from rlrf4rec.models import language_model_folder, model_identity
from rlrf4rec.prompts import Template
from rlrf4rec.prompts.rendering import HistoryItem, PromptWriter, shown_items
from rlrf4rec.records import Dataset, Histories
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage, StageWriter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class UserPrompts:
    """Writes the prompts of a log's users.

    Args:
        config: the settings.
        template: the domain's.
        dataset: the cleaned log.
        histories: reading histories, ``[u, h]``.
    """

    def __init__(
        self, config: Config, template: Template, dataset: Dataset, histories: Histories
    ) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(language_model_folder(config.model.name))
        self._writer = prompt_writer(config, template, tokenizer)
        self._config, self._dataset, self._histories = config, dataset, histories

    def of(self, user: int) -> str:
        """The prompt of the user of this number.

        Raises:
            ConfigError: it does not fit into ``prompt.max_tokens`` with anything of the history.
        """
        user_id, profile = self._dataset.users.select("user_id", "profile").row(user)
        return self._writer.write(
            reading_items(self._dataset, self._histories, user),
            profile,
            order=self._config.prompt.order,
            seed=stable_hash(self._config.seed, "prompt", user_id),
        )


def prompt_writer(
    config: Config, template: Template, tokenizer: PreTrainedTokenizerBase
) -> PromptWriter:
    """Who writes a run's prompts."""
    return PromptWriter(
        template,
        tokenizer,
        history_size=config.prompt.history_size,
        max_tokens=config.prompt.max_tokens,
        positive_rating=config.data.positive_rating,
    )


def reading_items(dataset: Dataset, histories: Histories, user: int) -> list[HistoryItem]:
    """A user's reading history in words, oldest first; prompts show `shown_items` of it."""
    items, ratings = histories.read_by(user)
    titles, details = dataset.items["title"], dataset.items["details"]
    return [
        HistoryItem(
            titles[int(item)], details[int(item)], None if np.isnan(rating) else float(rating)
        )
        for item, rating in zip(items, ratings, strict=True)
    ]


def shown_history(world: World, user: int) -> list[HistoryItem]:
    """Of a user's reading history, oldest first, the most that a prompt shows."""
    items = reading_items(world.dataset, world.histories, user)
    return shown_items(items, world.config.prompt.history_size)


def write_prompts(world: World) -> Stage:
    """Write the prompt of every user whom the LLM writes for.

    ``prompts.parquet`` has ``user``, ``user_id`` and ``prompt``.
    """
    config = world.config

    def work(writer: StageWriter) -> None:
        prompts = UserPrompts(config, world.template, world.dataset, world.histories)
        people = world.dataset.users.filter(world.folds.written).select("user", "user_id")
        written = [prompts.of(user) for user in people["user"]]
        frame = people.with_columns(pl.Series("prompt", written, dtype=pl.String))
        writer.write_frame("prompts.parquet", frame)

    settings = {
        # Where a template of the user's own lies says nothing of what it says.
        "prompt": {**config.prompt.model_dump(), "template": world.template.domain},
        "seed": config.seed,
        # Zero-shot ranking asks later: its wording makes no text stale.
        "template": world.template.model_dump(exclude={"ranking"}),
        "model": model_identity(config.model.name),
    }
    settings |= config.of_written()
    return world.workspace.stage("prompts", settings, [world.data], work)
