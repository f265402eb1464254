"""Settings of the five steps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rlrf4rec.config.sections import Backbone, Count, Order, Section, Seed


class PromptConfig(Section):
    """What the LLM reads."""

    template: str = Field("movies", description="movies, products, generic, or a YAML file's path")
    order: Order = Field(
        "shuffled",
        description="of the interactions shown: an LLM copies the first ones; shuffled: they speak "
        "for the whole history; newest_first: for what comes next, best at a shop (ours)",
    )
    history_size: Count = Field(25, description="the last interactions it reads (paper)")
    max_tokens: int = Field(512, ge=64, description="prompt budget; the oldest lines go first")


class ModelConfig(Section):
    """The LLM that writes preferences."""

    name: str = Field(
        "packaged/smollm2-135m-instruct", description="packaged/…, a hub id, or a local folder"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of tuning and sampling; auto: bfloat16 where the device computes in it",
    )


class GenerationConfig(Section):
    """Step 1: sampling preference texts."""

    n_samples: Count = Field(10, description="N (paper: 10, ablated 5 to 15)")
    max_users: Count | None = Field(
        None,
        description="a seeded sample of the users that the LLM writes for, who alone give pairs "
        "and are tested; recommenders learn from everybody (ours); null: all",
    )
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
    link_items: bool = Field(
        True,
        description="write the catalogue's items that a text names in the catalogue's own words "
        "before it is encoded, and leave out those that it does not hold (ours)",
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
    learning_rate: float = Field(
        1e-2, gt=0, description="ours; of the weights that read text a tenth of it"
    )
    weight_decay: float = Field(1.0, ge=0, description="AdamW's; ours: strong, data are small")
    batch_size: Count = Field(512, description="lists")
    max_epochs: Count = Field(
        8, description="ours; by IDs alone, and as many for what text adds to them"
    )
    min_epochs: Count = Field(3, description="by IDs alone (ours: they rest on a plateau at first)")
    validations_per_epoch: Count = Field(
        4, description="ours: on all lists, the best weights come before the second epoch ends"
    )
    patience: Count = Field(2, description="epochs without a better validation loss")
    max_lists_per_user: Count | None = Field(
        None,
        description="training lists a user and epoch; null: all. A limit makes large logs cheaper "
        "and ranks worse (docs/concepts/evidence.md, lab book, 33)",
    )


MAX_REPETITION = 0.5
"""Share of a well-formed text's words that may be said before in it (ours)."""


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
    choose_by: Literal["expected", "foreseen", "measured"] = Field(
        "foreseen",
        description="foreseen: the part of the reward that reading histories foretell, learned "
        "over all users; expected: with that share of the rest that repeats itself; measured: each "
        "text's own reward, as it is (paper)",
    )
    structure: bool = Field(
        True, description="only a well-formed text may be chosen (structure alignment)"
    )
    max_repetition: float = Field(
        MAX_REPETITION,
        ge=0,
        le=MAX_REPETITION,
        description="with structure: share of a chosen text's words that may be said before in it "
        f"(ours); more than {MAX_REPETITION} is malformed",
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
    pairs_per_user: Count = Field(
        1, description="second best against second worst, …; they share a row (paper: 1)"
    )
    best_of_n_epochs: int = Field(0, ge=0, description="fine-tuning on the best of N before DPO")
    random_pairs: bool = Field(False, description="also tune a control on pairs chosen at random")
    seed: Seed | None = Field(
        None,
        description="of the draw of pairs, a new adapter's weights and the pairs' order; null: the "
        "run's. Another one tunes anew on the same texts and rewards: how much of a gain is luck",
    )

    @model_validator(mode="after")
    def _room_for_a_user(self) -> AlignmentConfig:
        if self.max_pairs is not None and self.max_pairs < self.pairs_per_user:
            raise ValueError("max_pairs must not be smaller than pairs_per_user")
        return self

    def of_tuning(self) -> dict[str, object]:
        """What a tuning on given pairs depends on, but for its seed."""
        return self.model_dump(exclude={"max_pairs", "pairs_per_user", "random_pairs", "seed"})


class RoundsConfig(Section):
    """Repeat from step 1."""

    n_rounds: int = Field(2, ge=0, description="T (paper: 2; a third over-fits)")
    early_stop: bool = Field(True, description="stop when validation users' reward falls")
