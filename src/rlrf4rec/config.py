"""Every setting once: type, range, default, and where the number comes from.

"paper" is arXiv 2410.05939, second-hand where docs/concepts/method.md says so; "KAR" is arXiv
2306.10933 and its code; "ours" is our own choice, with the reason. Settings under `machine` change
how fast a run is, never what it computes, and are left out of the keys that decide what is stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlrf4rec.errors import ConfigError

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]

# A shipped reranker, or the import path of one's own: package.module:Class.
Backbone = Annotated[
    str, Field(pattern=r"^(dlcm|prm|setrank|mir|sasrec|gru4rec|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$")
]


# Where the negatives of candidate lists come from.
ListKind = Literal["uniform", "popular", "first_stage"]


class Section(BaseModel):
    """A part of the configuration; an unknown key is an error, and so is inf or NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TableColumns(Section):
    """Column names of the user's own files."""

    user: str = "user_id"
    item: str = "item_id"
    rating: str | None = Field(None, description="None: every row is a positive")
    timestamp: str | None = Field(None, description="a number or an ISO date; orders a user's rows")
    position: str | None = Field(None, description="an integer order, instead of a timestamp")
    title: str = "title"
    details: list[str] = Field(default_factory=list, description="item attributes for the text")
    profile: list[str] = Field(default_factory=list, description="user attributes for the prompt")


class AmazonConfig(Section):
    """Amazon review data."""

    year: Literal[2014, 2018, 2023] | None = Field(
        None, description="vintage of the files: 2014, 2018 or 2023; null: told from their lines"
    )


class DataConfig(Section):
    """Where the log is and what counts as a positive."""

    name: str | None = Field(None, description="name in results; default: the source's own name")
    source: Literal["movielens", "amazon", "table"] = "movielens"
    path: Path | None = Field(
        None, description="movielens, amazon: a folder; None: the packaged MovieLens-100K"
    )
    interactions: Path | None = Field(
        None, description="table: a CSV or Parquet file; amazon: the review file, if not by path"
    )
    items: Path | None = Field(
        None, description="table: a CSV or Parquet file; amazon: the meta file, if not by path"
    )
    users: Path | None = Field(None, description="table: CSV or Parquet of user attributes")
    columns: TableColumns = TableColumns()
    amazon: AmazonConfig = AmazonConfig()
    positive_rating: float = Field(
        4.0, description="MovieLens 4, Amazon 5 (KAR's code); with source amazon the default is 5"
    )
    min_user_interactions: Count = Field(
        1, description="k-core: fewest a user must have; 1: off (KAR's code: Amazon-Books 60)"
    )
    min_item_interactions: Count = Field(
        1, description="k-core: fewest an item must have; 1: off (KAR's code: Amazon-Books 40)"
    )
    repeats: Literal["keep", "first"] = Field(
        "keep", description="a user's later interactions with the same item; first: left out (ours)"
    )
    max_users: Count | None = Field(None, description="a seeded sample of the users; None: all")

    @model_validator(mode="before")
    @classmethod
    def _five_stars_on_amazon(cls, raw: Any) -> Any:  # pydantic hands over whatever was given
        if isinstance(raw, dict) and raw.get("source") == "amazon":
            return {"positive_rating": 5.0, **raw}
        return raw

    @model_validator(mode="after")
    def _sources_need_files(self) -> DataConfig:
        both = self.interactions is not None and self.items is not None
        if self.source == "table" and not both:
            raise ValueError("source 'table' needs both 'interactions' and 'items' (file paths)")
        if self.source == "amazon" and self.path is None and not both:
            raise ValueError("source 'amazon' needs 'path' (a folder with the downloaded files)")
        return self


class ListsConfig(Section):
    """Reading history and candidate lists."""

    kind: ListKind = Field(
        "popular", description="ours: on uniform negatives (paper) popularity alone wins"
    )
    list_size: int = Field(10, ge=2, description="KAR's code")
    chunk_size: int = Field(4, ge=1, description="next interactions in a list (KAR's code)")
    max_reading: int = Field(30, ge=1, description="reading history: min(ceil(n/2), 30) (KAR)")
    min_history: int = Field(3, ge=1, description="ours: fewer read items say nothing")
    draws: Count = Field(1, description="draws of negatives for each training chunk (ours)")
    partial_chunk: bool = Field(False, description="keep a user's last, shorter chunk")

    @model_validator(mode="after")
    def _room_for_negatives(self) -> ListsConfig:
        if self.chunk_size >= self.list_size:
            raise ValueError("chunk_size must be smaller than list_size")
        return self


class FirstStageConfig(Section):
    """The sequential recommender that retrieves the candidates of `first_stage` lists."""

    backbone: Literal["sasrec", "gru4rec"] = Field(
        "sasrec", description="trained on next items, on other users' feedback"
    )
    pool_size: Count = Field(
        100, description="ours: a list's candidates are among so many that it ranks first"
    )
    keep_missed: bool = Field(
        False, description="keep next items that it missed; its order then loses by construction"
    )
    item_text: bool = Field(False, description="it reads items' texts, so cold items can be found")
    n_negatives: Count = Field(
        2000, description="items drawn for its softmax; the whole catalogue if not larger (ours)"
    )
    embedding_dim: Count = Field(32, description="ours")
    hidden_dim: Count = Field(64, description="ours: feed-forward layer (SASRec), GRU state")
    n_heads: Count = Field(2, description="SASRec")
    n_blocks: Count = Field(1, description="SASRec")
    dropout: float = Field(0.2, ge=0, lt=1, description="SASRec's paper")
    learning_rate: float = Field(1e-2, gt=0, description="ours")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's own")
    batch_size: Count = Field(128, description="sequences (SASRec's paper)")
    max_epochs: Count = Field(15, description="ours")
    patience: Count = Field(2, description="epochs without a better validation loss")


class FoldsConfig(Section):
    """Who is trained on and who is tested."""

    protocol: Literal["split", "cross"] = Field(
        "cross", description="split: one train/test split (KAR); cross: everyone is tested once"
    )
    test_share: Share = Field(0.1, description="split: share of test users (KAR's code)")
    validation_share: Share = Field(0.1, description="of training users, for early stopping")
    recommender_folds: int = Field(
        5, ge=2, description="cross: folds over all users; split: parts that first stages serve"
    )


class PromptConfig(Section):
    """What the LLM reads."""

    template: str = Field("movies", description="movies, products, generic, or a YAML file's path")
    history_size: Count = Field(25, description="the last interactions it reads (paper)")
    max_tokens: int = Field(512, ge=64, description="prompt budget; the oldest lines go first")


class ModelConfig(Section):
    """The LLM that writes preferences."""

    name: str = Field(
        "packaged/smollm2-135m-instruct", description="packaged/…, a hub id, or a local folder"
    )
    dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="of tuning and sampling")


class GenerationConfig(Section):
    """Step 1: sampling preference texts."""

    n_samples: Count = Field(10, description="N (paper: 10, ablated 5 to 15)")
    temperature: float = Field(0.8, gt=0, description="ours, see docs/concepts/evidence.md")
    top_p: float = Field(1.0, gt=0, le=1, description="ours")
    max_new_tokens: int = Field(96, ge=8, description="ours")
    by_line: bool = Field(
        True,
        description="give each factor's name and let the LLM fill in the line; max_new_tokens is "
        "shared out among the lines (ours: a small LLM loses the structure otherwise)",
    )


class KnowledgeConfig(Section):
    """Step 2: text vectors and how the recommender takes them in."""

    encoder: str = Field("packaged/all-minilm-l6-v2", description="any sentence-transformers model")
    adaptor: Literal["hea", "mlp"] = Field("hea", description="KAR's hybrid experts, or an MLP")
    shared_experts: Count = Field(2, description="hea (KAR)")
    own_experts: Count = Field(5, description="hea (KAR)")
    lexical_dim: int = Field(
        64, ge=0, description="the catalogue's words beside the encoder's vector; 0: none (ours)"
    )
    practice_texts: int = Field(
        3,
        ge=0,
        description="texts a user made of the reading history, read in training only: they teach "
        "what a text says about items (ours)",
    )
    match_dim: int = Field(32, ge=0, description="learned match of user and item text; 0: none")
    join_history: bool = Field(
        False, description="encode the reading history's text and the LLM's together (KAR's code)"
    )
    user: bool = Field(True, description="use the user's text")
    item: bool = Field(True, description="use the item's text (title and details)")


class RecommenderConfig(Section):
    """The ID-based reranker and its training."""

    embedding_dim: Count = Field(32, description="KAR's code")
    hidden_dim: Count = Field(32, description="ours")
    n_heads: Count = Field(2, description="PRM, SetRank, MIR")
    n_blocks: Count = Field(1, description="PRM, SetRank; ours: small data over-fits deeper ones")
    n_induced: Count = Field(4, description="SetRank: induced points")
    dropout: float = Field(0.3, ge=0, lt=1, description="ours")
    learning_rate: float = Field(1e-2, gt=0, description="ours")
    weight_decay: float = Field(1.0, ge=0, description="AdamW's; ours: strong, data are small")
    batch_size: Count = Field(512, description="lists")
    max_epochs: Count = Field(10, description="ours")
    min_epochs: Count = Field(6, description="ours: ID-only models rest on a plateau at first")
    patience: Count = Field(2, description="epochs without a better validation loss")
    max_lists_per_user: Count | None = Field(
        24, description="training lists a user and epoch, so that heavy users do not drown others"
    )


class RewardConfig(Section):
    """Steps 3 and 4: the recommender's feedback and the choice of pairs."""

    backbone: Backbone = Field(
        "prm", description="dlcm, prm, setrank, mir, sasrec, gru4rec or package.module:Class"
    )
    folds: int = Field(3, ge=2, description="cross-fitting folds over the training users")
    seeds: Count = Field(2, description="recommenders averaged in each fold")
    metric: Literal["ndcg", "log_likelihood"] = Field(
        "log_likelihood", description="what pairs are chosen by; the other breaks ties"
    )
    k: Count = Field(5, description="NDCG@k (paper: 5)")
    foreseen: bool = Field(
        True,
        description="choose by the part of the reward that reading histories foretell, learned "
        "over all users; off: by each text's own measured reward (ours)",
    )
    structure: bool = Field(
        True, description="only a well-formed text may be chosen (structure alignment)"
    )
    margin: float = Field(0.05, ge=0, description="smallest best-minus-worst that gives a pair")


class AlignmentConfig(Section):
    """Step 5: structure alignment with DPO."""

    beta: float = Field(0.1, gt=0, description="paper: 0.01 with full batches on an 8B LLM")
    learning_rate: float = Field(2e-4, gt=0, description="paper: 5e-5; LoRA takes a higher one")
    epochs: Count = Field(1, description="paper: 3")
    batch_size: Count = Field(2, description="pairs (paper: 2)")
    gradient_accumulation: Count = Field(8, description="paper: 8")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="ours")
    lora_rank: Count = Field(16, description="ours: on all linear layers")
    lora_alpha: Count = Field(32, description="ours")
    max_pairs: Count | None = Field(
        None, description="a random sample of the pairs, so that users of all tastes count"
    )
    best_of_n_epochs: int = Field(0, ge=0, description="fine-tuning on the best of N before DPO")
    random_pairs: bool = Field(False, description="also tune a control on pairs chosen at random")


class RoundsConfig(Section):
    """Repeat from step 1."""

    n_rounds: int = Field(2, ge=0, description="T (paper: 2; a third over-fits)")
    early_stop: bool = Field(True, description="stop when validation users' reward falls")


class EvaluationConfig(Section):
    """What is measured, and how surely."""

    kinds: list[ListKind] = Field(["popular"], min_length=1)
    backbones: list[Backbone] = Field(
        ["dlcm", "prm", "setrank"], min_length=1, description="the first one is deployed"
    )
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    n_samples: Count = Field(2, description="texts a user; seed s reads text s mod n_samples")
    with_history: bool = Field(
        False, description="also test the LLM's texts joined to the history's own text (KAR's code)"
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


class MachineConfig(Section):
    """How the work is done; changes no result."""

    engine: Literal["auto", "openvino", "transformers"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: int = Field(0, ge=0, description="recommenders trained at once; 0: one a core")
    shard_size: Count = Field(32, description="users a shard: what a kill can cost")
    sampling_batch: Count = Field(16, description="users sampled together")
    kv_cache_gb: Count = Field(1, description="OpenVINO: room for the prompts and texts in work")


class Config(Section):
    """A whole run."""

    seed: int = Field(0, ge=0)
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

    @model_validator(mode="after")
    def _samples_suffice(self) -> Config:
        if self.evaluation.n_samples > self.generation.n_samples:
            raise ValueError("evaluation.n_samples must not exceed generation.n_samples")
        return self

    @model_validator(mode="after")
    def _pool_fills_a_list(self) -> Config:
        retrieved = "first_stage" in (self.lists.kind, *self.evaluation.kinds)
        if retrieved and self.first_stage.pool_size < self.lists.list_size:
            raise ValueError("first_stage.pool_size must not be smaller than lists.list_size")
        return self


def load_config(path: Path | str, overrides: list[str] | None = None) -> Config:
    """Read a YAML file; ``section.key=value`` overrides win over it.

    Relative paths in the `data` section are taken from the file's own folder.

    Raises:
        ConfigError: unreadable file or wrong settings; all wrong settings are named together.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            "a readable configuration file",
            found=f"{path} ({error.strerror})",
            remedy="Pass the path of a YAML file, for example configs/demo.yaml.",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            "valid YAML", found=f"{path}: {error}", remedy="Mend the file's syntax."
        ) from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(
            "sections such as 'data:' and 'lists:' at the top of the file",
            found=f"{path}: {type(raw).__name__}",
            remedy="See configs/demo.yaml.",
        )
    for override in overrides or []:
        _apply_override(raw, override)
    _resolve_paths(raw, path.parent)
    return parse_config(raw, origin=str(path))


def parse_config(raw: dict[str, Any], origin: str = "configuration") -> Config:
    """Check plain settings (as YAML gives them, hence `Any`) and make a `Config`.

    Raises:
        ConfigError: naming every wrong setting.
    """
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'configuration'}: {problem['msg']}"
            f" (got {str(problem.get('input'))[:80]!r})"
            for problem in error.errors()
        )
        raise ConfigError(
            "known settings within their ranges",
            found=f"{origin}: {problems}",
            remedy="docs/reference/configuration.md lists every setting.",
        ) from error


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, sign, value = override.partition("=")
    *sections, last = key.strip().split(".")
    if not sign or not last:
        raise ConfigError(
            "section.key=value",
            found=repr(override),
            remedy="For example --set generation.n_samples=4.",
        )
    target = raw
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(
                f"a section named {section!r}", found=repr(override), remedy="Check the key."
            )
    try:
        target[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(
            "a YAML value after '='", found=repr(override), remedy="Quote the value."
        ) from error


def _resolve_paths(raw: dict[str, Any], folder: Path) -> None:
    data = raw.get("data")
    if isinstance(data, dict):
        for key in ("path", "interactions", "items", "users"):
            if isinstance(data.get(key), str):
                data[key] = str((folder / Path(data[key]).expanduser()).resolve())
