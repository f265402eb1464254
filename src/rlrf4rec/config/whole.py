"""A whole run: its sections, how it is evaluated, and on what machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from rlrf4rec.config.data import DataConfig, FirstStageConfig, FoldsConfig, ListsConfig
from rlrf4rec.config.method import (
    AlignmentConfig,
    GenerationConfig,
    KnowledgeConfig,
    ModelConfig,
    PromptConfig,
    RecommenderConfig,
    RewardConfig,
    RoundsConfig,
)
from rlrf4rec.config.sections import Backbone, Count, ListKind, Section, Seed


class EvaluationConfig(Section):
    """What is measured, and how surely."""

    kinds: list[ListKind] = Field(["popular"], min_length=1)
    backbones: list[Backbone] = Field(
        ["dlcm", "prm", "setrank"], min_length=1, description="the first one is deployed"
    )
    seeds: list[Seed] = Field([0, 1, 2], min_length=1)
    n_samples: Count | None = Field(
        None,
        description="texts a user in the rows …_mean and in what is deployed; null: all N",
    )
    with_history: bool = Field(
        True, description="also test the LLM's texts joined to the history's own text (KAR's code)"
    )
    deploy_with_history: bool = Field(
        True,
        description="deploy the texts so joined: the row …_with_history, or …_mean_with_history "
        "where texts are several (ours: no text of the LLM's alone ranks as well)",
    )
    deploy_latest: bool = Field(
        True,
        description="deploy with users' latest interactions, and these's own text, in place of the "
        "reading history, which is the oldest half (ours)",
    )
    cool_temperature: float | None = Field(
        None,
        gt=0,
        description="also test one text of the untuned LLM written at this temperature: what it "
        "gains by writing more surely, without tuning (ours); null: no",
    )
    ks: list[Count] = Field([1, 3, 5, 7, 10], min_length=1)
    zero_shot: bool = Field(
        False, description="let the untuned LLM rank by itself, too: about a second a user on a CPU"
    )
    zero_shot_score: Literal["sum", "mean", "pmi", "pmi_mean"] = Field(
        "mean", description="per token; pmi: minus the same without the user's text (see protocol)"
    )
    resamples: int = Field(2000, ge=100, description="bootstrap resamples of users")
    cold_interactions: int = Field(
        5, ge=0, description="an item is cold with no more that training may know (ours)"
    )
    report_users: int = Field(6, ge=0, description="users shown in the report")

    @field_validator("kinds", "backbones", "seeds", "ks")
    @classmethod
    def _each_once(cls, entries: list[object]) -> list[object]:
        if len(set(entries)) < len(entries):
            raise ValueError("every entry once: one that is measured twice counts twice")
        return entries


class MachineConfig(Section):
    """How the work is done; changes no result but by rounding (in bfloat16 some texts)."""

    engine: Literal["auto", "openvino", "transformers"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: int = Field(0, ge=0, description="recommenders trained at once; 0: one a core")
    shard_size: Count = Field(32, description="users a shard: what a kill can cost")
    sampling_batch: Count = Field(16, description="transformers: users written for together")
    kv_cache_gb: Count = Field(
        1, description="OpenVINO: room for the prompts and texts at work, 128 texts at most"
    )


class Config(Section):
    """A whole run."""

    seed: Seed = 0
    data: DataConfig = DataConfig()
    lists: ListsConfig = ListsConfig()
    first_stage: FirstStageConfig = FirstStageConfig()
    folds: FoldsConfig = FoldsConfig()
    prompt: PromptConfig = PromptConfig()
    model: ModelConfig = ModelConfig()
    generation: GenerationConfig = GenerationConfig()
    knowledge: KnowledgeConfig = KnowledgeConfig()
    recommender: RecommenderConfig = RecommenderConfig()
    reward: RewardConfig = RewardConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    rounds: RoundsConfig = RoundsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    machine: MachineConfig = MachineConfig()

    @property
    def texts_per_user(self) -> int:
        """How many texts of each user are read as their mean."""
        wanted = self.evaluation.n_samples
        return self.generation.n_samples if wanted is None else wanted

    @property
    def backbones(self) -> list[str]:
        """Every recommender of the run once: the judge's and those that are evaluated."""
        return list(dict.fromkeys([self.reward.backbone, *self.evaluation.backbones]))

    @property
    def tuning_seed(self) -> int:
        """The seed of choosing pairs and tuning on them."""
        return self.seed if self.alignment.seed is None else self.alignment.seed

    def of_written(self) -> dict[str, object]:
        """What the choice of users that the LLM writes for depends on."""
        limit = self.generation.max_users
        # Left out where it is not set, so that runs from before it could be stay valid.
        return {} if limit is None else {"max_users": limit}

    def of_folds(self) -> dict[str, object]:
        """What the folds depend on, but for the run's seed."""
        return self.folds.model_dump() | self.of_written()

    @model_validator(mode="after")
    def _samples_suffice(self) -> Config:
        if self.texts_per_user > self.generation.n_samples:
            raise ValueError("evaluation.n_samples must not exceed generation.n_samples")
        return self

    @model_validator(mode="after")
    def _pool_fills_a_list(self) -> Config:
        retrieved = "first_stage" in (self.lists.kind, *self.evaluation.kinds)
        if retrieved and self.first_stage.pool_size < self.lists.list_size:
            raise ValueError("first_stage.pool_size must not be smaller than lists.list_size")
        return self
