"""The recommender's feedback as a function that any online trainer can call.

The signature is what TRL's `GRPOTrainer` and `RLOOTrainer` ask of a reward function: lists of
prompts and completions, further columns of the data set by name, and one float or None a
completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from rlrf4rec.errors import RequestError
from rlrf4rec.feedback import RewardModels
from rlrf4rec.stages.rewarding import rewarded_texts
from rlrf4rec.stages.trail import Trail
from rlrf4rec.stages.world import World


class RecommenderReward:
    """Rewards completions by the first round's cross-fitted recommenders.

    Args:
        world: the run.
        trail: its rounds.

    Attributes:
        __name__: how trainers call the reward in their logs.
    """

    def __init__(self, world: World, trail: Trail) -> None:
        self.__name__ = "recommender_reward"
        self._world = world
        self._models = {
            half: RewardModels.load(stage.folder / "models")
            for half, stage in trail.rounds[0].rewards.items()
        }

    def __call__(
        self,
        prompts: Sequence[object],
        completions: Sequence[str | Sequence[Mapping[str, str]]],
        user_id: Sequence[str],
        **columns: object,
    ) -> list[float | None]:
        """One reward a completion; None where it cannot be scored.

        Args:
            prompts: not read: the reward depends on the user's lists, not on the wording.
            completions: continuations of the answer's first words, as text or as a chat's messages.
            user_id: whose they are.
            columns: further columns that a trainer passes; not read.

        Raises:
            RequestError: a user that is not in the log.
        """
        users = self._world.user_numbers
        unknown = [name for name in user_id if name not in users]
        if unknown:
            raise RequestError(
                "users of the run's log",
                found=f"user_id {unknown[0]!r}",
                remedy="Build the trainer's data set from the run's prompts.",
            )
        said = [_content(completion) for completion in completions]
        first_words = self._world.template.first_words
        texts = pl.DataFrame(
            {
                "user": [users[name] for name in user_id],
                "text": [first_words + words for words in said],
                "said": [bool(words.strip()) for words in said],
            },
            schema={"user": pl.Int32, "text": pl.String, "said": pl.Boolean},
        )
        rewards: list[float | None] = [None] * texts.height
        halves = self._world.folds.half[texts["user"].to_numpy()]
        for half, models in self._models.items():
            # With protocol `split`, test users (half 1) are scored by the only models there are.
            mine = halves == half if len(self._models) > 1 else halves >= 0
            places = np.flatnonzero(mine & texts["said"].to_numpy())
            for place, reward in zip(places, self._score(models, texts[places]), strict=True):
                rewards[place] = reward
        return rewards

    def _score(self, models: RewardModels, texts: pl.DataFrame) -> list[float | None]:
        if texts.is_empty():
            return []
        # Texts of one user are numbered, so that all of them are scored in one pass.
        number = pl.int_range(pl.len(), dtype=pl.Int32).over("user").alias("sample")
        scored = rewarded_texts(self._world, models, texts.with_columns(number))
        return scored[self._world.config.reward.metric].to_list()


def _content(completion: str | Sequence[Mapping[str, str]]) -> str:
    """What was said last, where a trainer hands over messages."""
    if isinstance(completion, str):
        return completion
    return completion[-1]["content"] if completion else ""
