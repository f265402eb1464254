"""The choice of pairs, on frames made by hand."""

from __future__ import annotations

from typing import Literal

import polars as pl
import pytest

from rlrf4rec.config import RewardConfig
from rlrf4rec.feedback import choose_pairs, choose_random_pairs
from rlrf4rec.feedback.pairs import PAIR_SCHEMA

Row = tuple[int, int, str, bool, float | None, float | None]
"""User, sample, completion, structure_ok, ndcg, log_likelihood."""


def _texts(*rows: Row) -> pl.DataFrame:
    schema = {
        "user": pl.Int32, "sample": pl.Int32, "completion": pl.String, "structure_ok": pl.Boolean,
        "ndcg": pl.Float64, "log_likelihood": pl.Float64,
    }  # fmt: skip
    frame = pl.DataFrame(list(rows), schema=schema, orient="row")
    return frame.with_columns(
        ("prompt of " + pl.col("user").cast(pl.String)).alias("prompt"),
        pl.lit(0.0, dtype=pl.Float32).alias("repetition"),
    )


def _config(
    metric: Literal["ndcg", "log_likelihood"] = "log_likelihood",
    margin: float = 0.02,
    max_repetition: float = 0.5,
) -> RewardConfig:
    return RewardConfig(
        metric=metric, margin=margin, max_repetition=max_repetition, choose_by="measured"
    )


def _chosen(pairs: pl.DataFrame) -> list[tuple[int, str, str]]:
    return pairs.select("user", "chosen", "rejected").rows()


class TestBestAgainstWorst:
    def test_one_pair_a_user(self) -> None:
        texts = _texts(
            (7, 0, "middling", True, 0.5, -2.0),
            (3, 0, "bad", True, 0.1, -3.0),
            (7, 1, "worst", True, 0.4, -2.5),
            (3, 1, "good", True, 0.9, -1.0),
            (7, 2, "best", True, 0.6, -1.5),
        )
        assert choose_pairs(texts, _config(), None).rows() == [
            (3, "prompt of 3", "good", "bad", -1.0, -3.0),
            (7, "prompt of 7", "best", "worst", -1.5, -2.5),
        ]

    def test_pairs_of_one_user_do_not_contradict_each_other(self) -> None:
        """Ten texts tie, two are well-formed: t1 over t0 by the tie-break, never t0 over t1."""
        texts = _texts(
            *((0, n, f"t{n}", n < 2, 0.6, -2.0 + 0.1 * n if n < 2 else -1.0) for n in range(10))
        )
        pairs = choose_pairs(texts, _config("ndcg", margin=0), None, pairs_per_user=2)
        assert _chosen(pairs) == [(0, "t1", "t0")]

    def test_texts_that_earn_the_same_make_no_pair(self) -> None:
        texts = _texts((0, 0, "a", True, 0.5, -1.0), (0, 1, "b", True, 0.5, -1.0))
        assert choose_pairs(texts, _config(margin=0), None).is_empty()

    def test_a_text_written_twice_makes_its_pair_once(self) -> None:
        texts = _texts(
            *((0, n, "same", True, 0.9, -1.0) for n in (0, 1)),
            *((0, n, "bad", True, 0.1, -3.0) for n in (2, 3)),
        )
        pairs = choose_pairs(texts, _config(), None, pairs_per_user=2)
        assert _chosen(pairs) == [(0, "same", "bad")]

    def test_schema_is_the_standard_one(self) -> None:
        pairs = choose_pairs(
            _texts((0, 0, "a", True, 0.5, -1.0), (0, 1, "b", True, 0.1, -2.0)), _config(), None
        )
        assert dict(pairs.schema) == PAIR_SCHEMA
        assert list(PAIR_SCHEMA)[1:4] == ["prompt", "chosen", "rejected"]

    def test_nothing_to_choose_from(self) -> None:
        pairs = choose_pairs(_texts(), _config(), 5)
        assert dict(pairs.schema) == PAIR_SCHEMA
        assert pairs.height == 0

    def test_malformed_is_never_chosen_but_may_be_rejected(self) -> None:
        texts = _texts(
            (0, 0, "malformed best", False, 0.9, -1.0),
            (0, 1, "formed", True, 0.6, -2.0),
            (0, 2, "malformed worst", False, 0.2, -3.0),
            (0, 3, "formed, too", True, 0.5, -2.5),
        )
        assert _chosen(choose_pairs(texts, _config(), None)) == [(0, "formed", "malformed worst")]

    def test_a_text_that_repeats_itself_is_not_chosen(self) -> None:
        """The best of the texts within the bound is chosen; the worst is rejected in any case."""
        texts = _texts(
            (0, 0, "best", True, 0.9, -1.0),
            (0, 1, "second", True, 0.8, -1.2),
            (0, 2, "third", True, 0.7, -1.4),
            (0, 3, "worst", True, 0.1, -3.0),
        ).with_columns(pl.Series("repetition", [0.4, 0.3, 0.0, 0.4], dtype=pl.Float32))
        chosen = {
            bound: choose_pairs(texts, _config(max_repetition=bound), None)["chosen"].to_list()
            for bound in (0.5, 0.3, 0.2)
        }
        assert chosen == {0.5: ["best"], 0.3: ["second"], 0.2: ["third"]}

    def test_with_structure_off_the_best_is_chosen_whatever_its_form(self) -> None:
        texts = _texts(
            (0, 0, "malformed best", False, 0.9, -1.0),
            (0, 1, "formed", True, 0.6, -2.0),
            (0, 2, "worst", True, 0.2, -3.0),
        )
        config = RewardConfig(structure=False, choose_by="measured")
        assert _chosen(choose_pairs(texts, config, None)) == [(0, "malformed best", "worst")]

    def test_no_well_formed_text_no_pair(self) -> None:
        texts = _texts((0, 0, "a", False, 0.9, -1.0), (0, 1, "b", False, 0.1, -3.0))
        assert choose_pairs(texts, _config(), None).height == 0

    def test_best_well_formed_is_the_worst_of_all(self) -> None:
        texts = _texts((0, 0, "malformed", False, 0.9, -1.0), (0, 1, "formed", True, 0.1, -3.0))
        assert choose_pairs(texts, _config(margin=0.0), None).height == 0

    @pytest.mark.parametrize(("margin", "pairs"), [(0.0, 1), (0.25, 1), (0.26, 0)])
    def test_margin_is_the_smallest_difference(self, margin: float, pairs: int) -> None:
        texts = _texts((0, 0, "a", True, 0.5, -1.0), (0, 1, "b", True, 0.5, -1.25))
        assert choose_pairs(texts, _config(margin=margin), None).height == pairs

    def test_metric_to_choose_by(self) -> None:
        texts = _texts((0, 0, "a", True, 0.9, -2.0), (0, 1, "b", True, 0.1, -1.0))
        assert _chosen(choose_pairs(texts, _config("ndcg"), None)) == [(0, "a", "b")]
        assert _chosen(choose_pairs(texts, _config("log_likelihood"), None)) == [(0, "b", "a")]
        assert choose_pairs(texts, _config("ndcg"), None)["chosen_reward"].to_list() == [0.9]

    @pytest.mark.parametrize("metric", ["ndcg", "log_likelihood"])
    def test_the_other_metric_breaks_ties(self, metric: Literal["ndcg", "log_likelihood"]) -> None:
        """The first metric knows two values only; within each the second one decides."""
        rows = [("c", 1.0, -1.1), ("a", 1.0, -1.0), ("z", 0.0, -2.0), ("x", 0.0, -1.9)]
        texts = _texts(
            *(
                (0, sample, name, True, *((tied, fine) if metric == "ndcg" else (fine, tied)))
                for sample, (name, tied, fine) in enumerate(rows)
            )
        )
        assert _chosen(choose_pairs(texts, _config(metric), None)) == [(0, "a", "z")]

    def test_order_of_rows_does_not_matter(self) -> None:
        texts = _texts(
            *(
                (user, sample, f"{user}/{sample}", True, 0.5, -float((user + sample) % 3))
                for user in range(6)
                for sample in range(4)
            )
        )
        expected = choose_pairs(texts, _config(), 4)
        for seed in range(3):
            shuffled = texts.sample(fraction=1.0, shuffle=True, seed=seed)
            assert choose_pairs(shuffled, _config(), 4).equals(expected)

    def test_what_was_not_scored_is_left_out(self) -> None:
        texts = _texts(
            (0, 0, "unscored", True, None, None),
            (0, 1, "best", True, 0.9, -1.0),
            (0, 2, "worst", True, 0.1, -2.0),
            (0, 3, "half scored", True, 0.0, None),
            (1, 0, "only one is scored", True, 0.9, -1.0),
            (1, 1, "unscored", True, None, None),
        )
        assert _chosen(choose_pairs(texts, _config(), None)) == [(0, "best", "worst")]

    def test_saying_nothing_is_no_text(self) -> None:
        texts = _texts(
            (0, 0, "  \n", True, 0.0, -9.0),
            (0, 1, "best", True, 0.9, -1.0),
            (0, 2, "worst", True, 0.1, -2.0),
        )
        assert _chosen(choose_pairs(texts, _config(), None)) == [(0, "best", "worst")]

    def test_same_words_make_no_pair(self) -> None:
        """Possible when the same text was scored in two batches and the margin is zero."""
        texts = _texts((0, 0, "same", True, 0.5, -1.0), (0, 1, "same", True, 0.5, -1.0))
        assert choose_pairs(texts, _config(margin=0.0), None).height == 0


class TestSeveralPairsAUser:
    TEXTS = _texts(
        (0, 0, "a", True, 0.5, -1.0),
        (0, 1, "b", False, 0.5, -1.5),
        (0, 2, "c", True, 0.5, -2.0),
        (0, 3, "d", True, 0.5, -3.0),
        (0, 4, "e", False, 0.5, -4.0),
    )

    @pytest.mark.parametrize("pairs_per_user", [2, 3, 5])
    def test_second_best_against_second_worst(self, pairs_per_user: int) -> None:
        """Well-formed, best first: a c d; worst first: e d c b a. The third would be d over c."""
        pairs = choose_pairs(self.TEXTS, _config(), None, pairs_per_user=pairs_per_user)
        assert _chosen(pairs) == [(0, "a", "e"), (0, "c", "d")]

    def test_a_sample_keeps_users_whole(self) -> None:
        texts = pl.concat([self.TEXTS.with_columns(user=pl.lit(u, pl.Int32)) for u in range(6)])
        pairs = choose_pairs(texts, _config(), 5, pairs_per_user=2)
        assert pairs["user"].value_counts()["count"].to_list() == [2, 2]
        assert pairs["user"].is_sorted()

    def test_random_pairs_are_as_many(self) -> None:
        pairs = choose_pairs(self.TEXTS, _config(), None, pairs_per_user=2)
        random = choose_random_pairs(self.TEXTS, pairs, _config(), seed=0)
        assert random.height == 2
        assert set(random["chosen"]) < {"a", "c", "d"}
        assert not set(random["chosen"]) & set(random["rejected"])


class TestAtMost:
    TEXTS = _texts(
        *(
            (user, sample, f"{user}/{sample}", True, 0.5, reward)
            for user in range(40)
            for sample, reward in enumerate([-1.0 - user / 50, -2.0])
        )
    )

    def _users(self, max_pairs: int | None, seed: int = 0) -> list[int]:
        return choose_pairs(self.TEXTS, _config(), max_pairs, seed)["user"].to_list()

    def test_all_or_so_many_sorted_by_user(self) -> None:
        assert self._users(None) == self._users(40) == self._users(99) == list(range(40))
        some = self._users(10)
        assert len(set(some)) == 10
        assert some == sorted(some)

    def test_drawn_by_the_seed_and_not_by_the_margin(self) -> None:
        """Margins shrink with the user's number: the widest would be users 0 to 9."""
        assert self._users(10) == self._users(10)
        assert self._users(10) != self._users(10, seed=1)
        drawn = [user for seed in range(60) for user in self._users(10, seed)]
        assert 17 < sum(drawn) / len(drawn) < 22


class TestEstimate:
    def test_the_estimate_chooses_and_the_measured_reward_breaks_ties(self) -> None:
        texts = _texts(
            (0, 0, "lucky", True, 0.9, -1.0),
            (0, 1, "expected best", True, 0.5, -2.0),
            (0, 2, "as well expected", True, 0.5, -2.5),
            (0, 3, "expected worst", True, 0.7, -1.5),
        ).with_columns(pl.Series("estimate", [0.0, 0.2, 0.2, -0.3]))
        (row,) = choose_pairs(texts, RewardConfig(), None).rows()
        assert row[2:] == ("expected best", "expected worst", 0.2, -0.3)


class TestRandomPairs:
    TEXTS = _texts(
        *(
            (user, sample, f"{user}/{sample}", sample != 2, 0.1 * sample, -2.0 + 0.3 * sample)
            for user in range(60)
            for sample in range(5)
        )
    )
    PAIRS = choose_pairs(TEXTS, _config(), None)

    def test_same_users_same_form(self) -> None:
        found = choose_random_pairs(self.TEXTS, self.PAIRS.head(40), _config(), 0)
        assert found["user"].to_list() == self.PAIRS.head(40)["user"].to_list()
        assert dict(found.schema) == PAIR_SCHEMA
        assert found["prompt"].to_list() == self.PAIRS.head(40)["prompt"].to_list()
        assert found["chosen_reward"].null_count() == 40
        assert (found["chosen"] != found["rejected"]).all()
        own = pl.col("user").cast(pl.String) + "/"
        assert found.select(pl.col("chosen").str.starts_with(own).all()).item()
        assert found.select(pl.col("rejected").str.starts_with(own).all()).item()

    def test_with_structure_off_a_malformed_text_may_be_chosen(self) -> None:
        """Sample 2 is the malformed one."""
        for structure, expected in ((True, False), (False, True)):
            config = RewardConfig(structure=structure)
            found = choose_random_pairs(self.TEXTS, self.PAIRS, config, 0)
            assert found["chosen"].str.ends_with("/2").any() is expected

    def test_a_text_that_repeats_itself_is_not_chosen(self) -> None:
        """Samples 0 and 1 do: only 3 and 4, the other well-formed ones, may be chosen."""
        said = (pl.col("sample") < 2).cast(pl.Float32) * 0.4
        texts = self.TEXTS.with_columns(said.alias("repetition"))
        config = RewardConfig(max_repetition=0.3)
        found = choose_random_pairs(texts, self.PAIRS, config, 0)
        assert set(found["chosen"].str.slice(-1)) == {"3", "4"}
        assert set(found["rejected"].str.slice(-1)) == {"0", "1", "2", "3", "4"}

    def test_rewards_are_not_looked_at(self) -> None:
        """Rewards in any other order, or none at all, change nothing."""
        expected = choose_random_pairs(self.TEXTS, self.PAIRS, _config(), 0)
        turned = self.TEXTS.with_columns(
            pl.col("ndcg").shuffle(seed=1), -pl.col("log_likelihood").shuffle(seed=2)
        )
        blind = self.TEXTS.with_columns(
            pl.lit(None, dtype=pl.Float64).alias("ndcg"),
            pl.lit(None, dtype=pl.Float64).alias("log_likelihood"),
        )
        for texts in (turned, blind):
            assert choose_random_pairs(texts, self.PAIRS, _config(), 0).equals(expected)

    def test_better_texts_are_not_preferred(self) -> None:
        """The chosen one is the better one in about half of 60 pairs; by feedback in all."""
        found = choose_random_pairs(self.TEXTS, self.PAIRS, _config(), 0)
        better = (found["chosen"].str.slice(-1) > found["rejected"].str.slice(-1)).sum()
        assert 15 < better < 45

    def test_chosen_is_well_formed_rejected_is_anything(self) -> None:
        found = choose_random_pairs(self.TEXTS, self.PAIRS, _config(), 0)
        assert set(found["chosen"].str.slice(-1)) == {"0", "1", "3", "4"}
        assert set(found["rejected"].str.slice(-1)) == {"0", "1", "2", "3", "4"}

    def test_seeded(self) -> None:
        first = choose_random_pairs(self.TEXTS, self.PAIRS, _config(), 0)
        assert choose_random_pairs(self.TEXTS, self.PAIRS, _config(), 0).equals(first)
        assert not choose_random_pairs(self.TEXTS, self.PAIRS, _config(), 1).equals(first)

    def test_a_users_pair_does_not_depend_on_others_or_on_order(self) -> None:
        whole = choose_random_pairs(self.TEXTS, self.PAIRS, _config(), 0)
        shuffled = self.TEXTS.sample(fraction=1.0, shuffle=True, seed=1)
        assert choose_random_pairs(shuffled, self.PAIRS, _config(), 0).equals(whole)
        some = self.PAIRS.filter(pl.col("user") % 7 == 3)
        expected = whole.filter(pl.col("user") % 7 == 3)
        assert choose_random_pairs(self.TEXTS, some, _config(), 0).equals(expected)

    def test_nobody(self) -> None:
        found = choose_random_pairs(self.TEXTS, self.PAIRS.head(0), _config(), 0)
        assert dict(found.schema) == PAIR_SCHEMA
        assert found.height == 0

    def test_users_without_two_texts(self) -> None:
        texts = _texts(
            (0, 0, "same", True, 0.5, -1.0),
            (0, 1, "same", True, 0.5, -1.0),
            (1, 0, "malformed", False, 0.5, -1.0),
            (1, 1, "malformed, too", False, 0.5, -1.0),
            (2, 0, "said", True, 0.5, -1.0),
            (2, 1, " ", True, 0.5, -1.0),
        )
        users = pl.DataFrame({"user": [0, 1, 2]}, schema={"user": pl.Int32})
        assert choose_random_pairs(texts, users, _config(), 0).height == 0
