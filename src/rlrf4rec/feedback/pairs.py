"""Step 4: the best and the worst of a user's N texts become a preference pair.

A malformed text may be rejected, never chosen, so that DPO teaches form and content together
(docs/concepts/method.md). A user whose best and worst differ by less than the margin gives
no pair: the difference would be noise.
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
    texts: pl.DataFrame, config: RewardConfig, max_pairs: int | None, seed: int = 0
) -> pl.DataFrame:
    """One pair a user: the best well-formed text against the worst text.

    With ``config.structure`` off, the best text is chosen whatever its form.

    Args:
        texts: one row a text: ``user``, ``sample``, ``prompt``, ``completion``, ``structure_ok``,
            ``ndcg``, ``log_likelihood`` (null where not scored); with ``config.foreseen`` also
            ``foreseen``.
        config: the metric to choose by (the other one breaks ties), the margin, and whether the
            chosen text must be well-formed.
        max_pairs: keep a random sample; None keeps all. The widest differences belong to users
            of extreme taste, and an LLM tuned on these alone writes everybody's text for them.
        seed: of the sample.

    Returns:
        A frame in the standard preference format, see `PAIR_SCHEMA`, sorted by user.
    """
    first, second = (
        ("ndcg", "log_likelihood") if config.metric == "ndcg" else ("log_likelihood", "ndcg")
    )
    said = texts.filter(pl.col("completion").str.strip_chars() != "")
    if config.foreseen:
        first, second = "foreseen", first
    scored = said.drop_nulls([first, second]).with_columns(pl.col(first).alias("reward"))
    worst_first = scored.sort("user", first, second, "sample")
    fit = pl.col("structure_ok") if config.structure else pl.lit(True)
    chosen = worst_first.filter(fit).group_by("user", maintain_order=True).last()
    rejected = worst_first.group_by("user", maintain_order=True).first()
    pairs = _join(chosen, rejected).filter(
        pl.col("chosen_reward") - pl.col("rejected_reward") >= config.margin
    )
    return _sample(pairs, max_pairs, seed)


def choose_random_pairs(
    texts: pl.DataFrame, pairs: pl.DataFrame, seed: int, *, structure: bool = True
) -> pl.DataFrame:
    """The control: for the users of ``pairs``, a pair chosen without looking at rewards.

    With ``structure`` the chosen text is still well-formed: only the recommender's feedback is
    taken away.
    """
    parts = []
    for user, rows in texts.filter(pl.col("user").is_in(pairs["user"].implode())).group_by(
        "user", maintain_order=True
    ):
        rng = np.random.default_rng([seed, int(str(user[0]))])
        said = rows.filter(pl.col("completion").str.strip_chars() != "")
        order = said.sort("sample")[rng.permutation(said.height)]
        formed = order.filter(pl.col("structure_ok") if structure else pl.lit(True)).head(1)
        if formed.is_empty():
            continue
        other = order.filter(pl.col("completion") != formed["completion"][0]).head(1)
        if other.height:
            parts.append(_join(_unrewarded(formed), _unrewarded(other)))
    if not parts:
        return pl.DataFrame(schema=PAIR_SCHEMA)
    return pl.concat(parts).sort("user")


def _unrewarded(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.lit(None, dtype=pl.Float64).alias("reward"))


def _join(chosen: pl.DataFrame, rejected: pl.DataFrame) -> pl.DataFrame:
    return (
        chosen.select(
            "user",
            "prompt",
            pl.col("completion").alias("chosen"),
            pl.col("reward").alias("chosen_reward"),
        )
        .join(
            rejected.select(
                "user",
                pl.col("completion").alias("rejected"),
                pl.col("reward").alias("rejected_reward"),
            ),
            on="user",
        )
        .filter(pl.col("chosen") != pl.col("rejected"))
        .select(list(PAIR_SCHEMA))
    )


def _sample(pairs: pl.DataFrame, max_pairs: int | None, seed: int) -> pl.DataFrame:
    pairs = pairs.sort("user")
    if max_pairs is None or pairs.height <= max_pairs:
        return pairs
    rows = np.random.default_rng([seed, max_pairs]).permutation(pairs.height)[:max_pairs]
    return pairs[np.sort(rows)]
