"""Every setting once: type, range, default, and where the number comes from.

"paper" is arXiv 2410.05939, second-hand where docs/concepts/method.md says so; "KAR" is arXiv
2306.10933 and its code; "ours" is our own choice, with the reason. Settings under `machine` change
how fast a run is, never what it computes, and are left out of the keys that decide what is stale.
"""

from rlrf4rec.config.data import (
    AmazonConfig,
    DataConfig,
    FirstStageConfig,
    FoldsConfig,
    ListsConfig,
    TableColumns,
)
from rlrf4rec.config.loading import load_config, parse_config
from rlrf4rec.config.method import (
    MAX_REPETITION,
    AlignmentConfig,
    GenerationConfig,
    KnowledgeConfig,
    ModelConfig,
    PromptConfig,
    RecommenderConfig,
    RewardConfig,
    RoundsConfig,
)
from rlrf4rec.config.sections import Backbone, Count, ListKind, Order, Section, Seed, Share
from rlrf4rec.config.whole import Config, EvaluationConfig, MachineConfig

__all__ = [
    "MAX_REPETITION",
    "AlignmentConfig",
    "AmazonConfig",
    "Backbone",
    "Config",
    "Count",
    "DataConfig",
    "EvaluationConfig",
    "FirstStageConfig",
    "FoldsConfig",
    "GenerationConfig",
    "KnowledgeConfig",
    "ListKind",
    "ListsConfig",
    "MachineConfig",
    "ModelConfig",
    "Order",
    "PromptConfig",
    "RecommenderConfig",
    "RewardConfig",
    "RoundsConfig",
    "Section",
    "Seed",
    "Share",
    "TableColumns",
    "load_config",
    "parse_config",
]
