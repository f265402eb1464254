"""Settings of the log, its lists and its folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from rlrf4rec.config.sections import Count, ListKind, Section, Share


class TableColumns(Section):
    """Column names of the user's own files."""

    user: str = "user_id"
    item: str = "item_id"
    rating: str | None = Field(None, description="null: every row is a positive")
    timestamp: str | None = Field(None, description="a number or an ISO date; orders a user's rows")
    position: str | None = Field(None, description="a whole number; orders what times do not")
    title: str = "title"
    details: list[str] = Field(default_factory=list, description="item attributes for the text")
    profile: list[str] = Field(default_factory=list, description="user attributes for the prompt")


class AmazonConfig(Section):
    """Amazon review data."""

    year: Literal[2014, 2018, 2023] | None = Field(
        None, description="vintage of the files: 2014, 2018 or 2023; null: told from their lines"
    )


# Of the files that the data section can name, those that a source reads.
READ = {
    "movielens": ("path",),
    "amazon": ("path", "interactions", "items"),
    "table": ("interactions", "items", "users"),
}


class DataConfig(Section):
    """Where the log is and what counts as a positive."""

    name: str | None = Field(None, description="name in results; default: the source's own name")
    source: Literal["movielens", "amazon", "table"] = "movielens"
    path: Path | None = Field(
        None, description="movielens, amazon: a folder; null: the packaged MovieLens-100K"
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
    max_users: Count | None = Field(None, description="a seeded sample of the users; null: all")

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

    @model_validator(mode="after")
    def _what_is_named_is_read(self) -> DataConfig:
        files = dict.fromkeys(name for names in READ.values() for name in names)
        named = [name for name in files if getattr(self, name) is not None]
        unread = [name for name in named if name not in READ[self.source]]
        if unread:
            readers = [source for source in READ if set(named) <= set(READ[source])]
            hint = f"; set source: {' or '.join(readers)}" if readers else ""
            raise ValueError(f"source {self.source!r} does not read {', '.join(unread)}{hint}")
        if self.columns.profile and self.users is None:
            raise ValueError("columns.profile needs 'users', the file that these columns are in")
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

    @model_validator(mode="after")
    def _reading_can_suffice(self) -> ListsConfig:
        if self.min_history > self.max_reading:
            raise ValueError("min_history must not exceed max_reading")
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
