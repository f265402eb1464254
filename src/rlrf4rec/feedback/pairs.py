"""Step 4: the best and the worst of a user's N texts become a preference pair.

A malformed text may be rejected, never chosen, so that DPO teaches form and content together
(docs/concepts/method.md); nor may one that repeats itself more than is allowed. A user whose best
and worst differ by less than the margin gives no pair: the difference would be noise.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from rlrf4rec.config import RewardConfig

PAIR_SCHEMA = {
    "user": pl.Int32,
    "prompt": pl.String,
    "chosen": pl.String,
    "rejected": pl.String,
    "chosen_reward": pl.Float64,
    "rejected_reward": pl.Float64,
}


def choose_pairs(
    texts: pl.DataFrame,
    config: RewardConfig,
    max_pairs: int | None,
    seed: int = 0,
    *,
    pairs_per_user: int = 1,
) -> pl.DataFrame:
    """Each user's best well-formed text against the worst text.

    With ``config.structure`` off, the best text is chosen whatever its form.

    Args:
        texts: one row a text: ``user``, ``sample``, ``prompt``, ``completion``, ``structure_ok``,
            ``repetition``, ``ndcg``, ``log_likelihood`` (null where not scored); also ``estimate``,
            what the texts are compared by, unless ``config.choose_by`` is ``measured``.
        config: the metric to choose by (the other one breaks ties), the margin, and what form the
            chosen text must have.
        max_pairs: keep the pairs of a random sample of users, no more than this many; None keeps
            all. The widest differences belong to users of extreme taste, and an LLM tuned on these
            alone writes everybody's text for them.
        seed: of the sample.
        pairs_per_user: at most; the second one is the second-best well-formed text against the
            second-worst text, and so on.

    Returns:
        A frame in the standard preference format, see `PAIR_SCHEMA`, sorted by user.
    """
    first, second = (
        ("ndcg", "log_likelihood") if config.metric == "ndcg" else ("log_likelihood", "ndcg")
    )
    said = texts.filter(pl.col("completion").str.strip_chars() != "")
    if config.choose_by != "measured":
        first, second = "estimate", first
    scored = said.drop_nulls([first, second]).with_columns(
        pl.col(first).alias("reward"), pl.col(second).alias("tie_break")
    )
    worst_first = scored.sort("user", first, second, "sample")
    pairs = _join(
        _numbered(worst_first.reverse().filter(_may_be_chosen(config)), pairs_per_user),
        _numbered(worst_first, pairs_per_user),
    )
    # With a margin of 0 texts may tie, and few of the best be well-formed.
    better = (pl.col("chosen_reward") > pl.col("rejected_reward")) | (
        (pl.col("chosen_reward") == pl.col("rejected_reward"))
        & (pl.col("chosen_tie_break") > pl.col("rejected_tie_break"))
    )
    apart = pl.col("chosen_reward") - pl.col("rejected_reward") >= config.margin
    kept = pairs.filter(better & apart).select(list(PAIR_SCHEMA))
    # The same text may have been written twice.
    distinct = kept.unique(["user", "chosen", "rejected"], keep="first", maintain_order=True)
    return _sample(distinct, max_pairs, seed)


def choose_random_pairs(
    texts: pl.DataFrame, pairs: pl.DataFrame, config: RewardConfig, seed: int
) -> pl.DataFrame:
    """The control: for the users of ``pairs``, a pair chosen without looking at rewards.

    The chosen texts have the form that ``config`` asks for: only the recommender's feedback is
    taken away. A user has as many pairs as in ``pairs``, or as many as there are texts for.
    """
    wanted = dict(pairs.group_by("user").len().iter_rows())
    parts = []
    for user, rows in texts.filter(pl.col("user").is_in(pairs["user"].implode())).group_by(
        "user", maintain_order=True
    ):
        rng = np.random.default_rng([seed, int(str(user[0]))])
        said = rows.filter(pl.col("completion").str.strip_chars() != "")
        order = said.sort("sample")[rng.permutation(said.height)]
        n_pairs = wanted[user[0]]
        formed = order.filter(_may_be_chosen(config)).head(n_pairs)
        others = order.filter(~pl.col("completion").is_in(formed["completion"].implode()))
        if formed.height and others.height:
            both = (_numbered(_unrewarded(some), n_pairs) for some in (formed, others))
            parts.append(_join(*both).select(list(PAIR_SCHEMA)))
    if not parts:
        return pl.DataFrame(schema=PAIR_SCHEMA)
    return pl.concat(parts).sort("user", maintain_order=True)


def _may_be_chosen(config: RewardConfig) -> pl.Expr:
    """Whether a text has the form that a chosen one must have."""
    if not config.structure:
        return pl.lit(True)
    return pl.col("structure_ok") & (pl.col("repetition") <= config.max_repetition)


def _numbered(texts: pl.DataFrame, most: int) -> pl.DataFrame:
    """The first texts of each user, in the frame's order, with their ``place`` from 0."""
    place = pl.int_range(pl.len(), dtype=pl.Int64).over("user")
    return texts.with_columns(place.alias("place")).filter(pl.col("place") < most)


def _unrewarded(rows: pl.DataFrame) -> pl.DataFrame:
    nothing = pl.lit(None, dtype=pl.Float64)
    return rows.with_columns(nothing.alias("reward"), nothing.alias("tie_break"))


def _join(chosen: pl.DataFrame, rejected: pl.DataFrame) -> pl.DataFrame:
    return (
        chosen.select(
            "user",
            "place",
            "prompt",
            pl.col("completion").alias("chosen"),
            pl.col("reward").alias("chosen_reward"),
            pl.col("tie_break").alias("chosen_tie_break"),
        )
        .join(
            rejected.select(
                "user",
                "place",
                pl.col("completion").alias("rejected"),
                pl.col("reward").alias("rejected_reward"),
                pl.col("tie_break").alias("rejected_tie_break"),
            ),
            on=["user", "place"],
        )
        .filter(pl.col("chosen") != pl.col("rejected"))
        .sort("user", "place")
    )


def _sample(pairs: pl.DataFrame, max_pairs: int | None, seed: int) -> pl.DataFrame:
    if max_pairs is None or pairs.height <= max_pairs:
        return pairs
    users = pairs["user"].unique().sort()
    order = users[np.random.default_rng([seed, max_pairs]).permutation(len(users))]
    counts = pairs["user"].value_counts()
    drawn = (
        pl.DataFrame({"user": order})
        .join(counts, on="user", how="left", maintain_order="left")
        .filter(pl.col("count").cum_sum() <= max_pairs)
    )
    return pairs.filter(pl.col("user").is_in(drawn["user"].implode()))
