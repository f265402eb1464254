"""The recommender's feedback: by hand, and with small recommenders that are really trained."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from rlrf4rec.config import KnowledgeConfig, RecommenderConfig, RewardConfig
from rlrf4rec.errors import DataError, WorkspaceError
from rlrf4rec.evaluation.metrics import list_metrics
from rlrf4rec.feedback import RewardModels, fit_reward_models, reward_texts
from rlrf4rec.feedback.rewards import log_likelihood, reward_folds
from rlrf4rec.recommenders import ListInputs
from rlrf4rec.records import BoolArray, CandidateLists, Histories, IntArray

N_USERS, N_ITEMS, N_CHUNKS = 40, 24, 4


class TestLogLikelihood:
    def test_by_hand(self) -> None:
        """Equal scores of two: ln 0.5. Scores ln 3 and ln 1: the positive has 3/4 or 1/4."""
        scores = np.log(np.array([[[1, 1], [3, 1]], [[1, 3], [1, 1]]], dtype=np.float32))
        labels = np.array([[1, 0], [1, 0]])
        expected = [[math.log(0.5), math.log(0.75)], [math.log(0.25), math.log(0.5)]]
        np.testing.assert_allclose(log_likelihood(labels, scores), expected, rtol=1e-6)
        assert log_likelihood(np.array([[1, 0]]), np.zeros((1, 1, 2), np.float32)) == (
            pytest.approx(-0.6931, abs=1e-4)
        )

    def test_mean_over_positives(self) -> None:
        """Shares 1/2, 1/4, 1/4 with the first two positive: (ln 1/2 + ln 1/4) / 2."""
        scores = np.log(np.array([[[2, 1, 1]]], dtype=np.float32))
        expected = (math.log(0.5) + math.log(0.25)) / 2
        assert log_likelihood(np.array([[1, 1, 0]]), scores) == pytest.approx(expected)

    def test_large_scores(self) -> None:
        scores = np.array([[[1e4, 0.0]]], dtype=np.float32)
        assert log_likelihood(np.array([[1, 0]]), scores) == 0
        assert log_likelihood(np.array([[0, 1]]), scores) == -1e4


class TestFolds:
    def test_balanced(self) -> None:
        trainers = np.arange(25) % 5 != 0
        fold = reward_folds(trainers, 3, seed=0)
        assert (fold[~trainers] == -1).all()
        assert sorted(np.bincount(fold[trainers]).tolist()) == [6, 7, 7]

    def test_seeded(self) -> None:
        everyone = np.ones(60, dtype=bool)
        first = reward_folds(everyone, 3, seed=0)
        np.testing.assert_array_equal(reward_folds(everyone, 3, seed=0), first)
        assert (reward_folds(everyone, 3, seed=1) != first).any()
        # Not dealt out in the users' order, which may mean something.
        assert (first != np.arange(60) % 3).any()


@dataclass(frozen=True)
class World:
    """Half of the users like the items of one kind, half those of the other; texts tell which.

    Rows ``3u``, ``3u + 1`` and ``3u + 2`` of the texts: two that point at what user ``u`` likes
    and one that points away from it.
    """

    inputs: ListInputs
    lists: CandidateLists
    trainers: BoolArray
    validators: BoolArray

    def rows(self, *numbers: int) -> IntArray:
        """``[n, s]``: these texts of each list's user; -1 stands for no text."""
        users = self.lists.user
        columns = [np.full(len(users), -1) if n < 0 else 3 * users + n for n in numbers]
        return np.stack(columns, axis=1)

    def fit(
        self,
        lists: CandidateLists | None = None,
        *,
        seeds: int = 1,
        seed: int = 0,
        processes: int = 1,
        folder: Path | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> RewardModels:
        return fit_reward_models(
            RewardConfig(backbone="prm", folds=2, seeds=seeds),
            RecommenderConfig(
                embedding_dim=8, hidden_dim=8, batch_size=32, max_epochs=12, learning_rate=0.01
            ),
            KnowledgeConfig(match_dim=4),
            self.inputs,
            lists or self.lists,
            self.rows(0, 1),
            self.trainers,
            self.validators,
            seed=seed,
            processes=processes,
            folder=folder,
            on_progress=on_progress,
        )


def _world() -> World:
    rng = np.random.default_rng(0)
    taste = np.array([[1.0, 0], [-1.0, 0]])
    kind = np.arange(N_ITEMS) % 2
    likes = np.arange(N_USERS) // 2 % 2

    def around(centre: np.ndarray) -> np.ndarray:
        return np.concatenate([centre, np.zeros((len(centre), 6))], 1) + rng.normal(
            scale=0.1, size=(len(centre), 8)
        )

    texts = np.stack(
        [around(taste[likes]), around(taste[likes]), around(-taste[likes])], axis=1
    ).reshape(3 * N_USERS, 8)
    owner = np.repeat(np.arange(N_USERS), N_CHUNKS)
    items = np.stack([rng.permutation(N_ITEMS)[:8] for _ in owner])
    labels = (kind[items] == likes[owner][:, None]).astype(np.int64)
    histories = Histories(
        np.full((N_USERS, 1), -1), np.full((N_USERS, 1), np.nan, np.float32), np.zeros(N_USERS, int)
    )
    lists = CandidateLists(
        "popular", owner, np.tile(np.arange(N_CHUNKS), N_USERS), np.zeros_like(owner), items, labels
    )
    number = np.arange(N_USERS)
    return World(
        ListInputs.from_numpy(
            histories, around(taste[kind]).astype(np.float32), texts.astype(np.float32)
        ),
        lists,
        number < 28,
        (number >= 28) & (number < 36),
    )


@pytest.fixture(scope="module")
def world() -> World:
    return _world()


@pytest.fixture(scope="module")
def models(world: World) -> RewardModels:
    return world.fit()


def _same_weights(one: RewardModels, other: RewardModels, fold: int) -> bool:
    first, second = (models.models[fold][0].model.state_dict() for models in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


class TestCrossFitting:
    def test_one_model_a_fold_and_seed(self, world: World) -> None:
        told: list[tuple[int, int]] = []
        models = world.fit(seeds=2, on_progress=lambda done, total: told.append((done, total)))
        assert [len(seeds) for seeds in models.models] == [2, 2]
        assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
        first, second = (model.model.state_dict() for model in models.models[0])
        assert any(not torch.equal(first[name], second[name]) for name in first)

    def test_everybody_else_has_no_fold(self, world: World, models: RewardModels) -> None:
        assert (models.fold[world.trainers] >= 0).all()
        assert (models.fold[~world.trainers] == -1).all()

    def test_same_seed_same_models(self, world: World, models: RewardModels) -> None:
        again = world.fit()
        np.testing.assert_array_equal(again.fold, models.fold)
        assert all(_same_weights(again, models, fold) for fold in range(2))

    def test_same_models_from_any_number_of_processes(self, world: World) -> None:
        """To the last bit, in the same places, and without a change to this process's threads."""
        told: list[tuple[int, int]] = []
        before = torch.get_num_threads()
        one = world.fit(seeds=2)
        two = world.fit(seeds=2, processes=2, on_progress=lambda *numbers: told.append(numbers))
        assert torch.get_num_threads() == before
        assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
        np.testing.assert_array_equal(two.fold, one.fold)
        rows = world.rows(0, 2)
        for fold in range(2):
            for first, second in zip(one.models[fold], two.models[fold], strict=True):
                np.testing.assert_array_equal(
                    second.score(world.inputs, world.lists, rows),
                    first.score(world.inputs, world.lists, rows),
                )

    @pytest.mark.parametrize("processes", [1, 2])
    def test_a_killed_call_goes_on(self, world: World, tmp_path: Path, processes: int) -> None:
        whole = world.fit(seeds=2)

        def stop(done: int, total: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            world.fit(seeds=2, processes=processes, folder=tmp_path, on_progress=stop)
        told: list[tuple[int, int]] = []
        again = world.fit(
            seeds=2, folder=tmp_path, on_progress=lambda *numbers: told.append(numbers)
        )
        assert told[0][0] >= 3  # a second worker may have ended in the meantime
        assert told[-1] == (4, 4)
        assert all(_same_weights(again, whole, fold) for fold in range(2))

    def test_error_of_a_worker_is_told(self, world: World) -> None:
        """A user can mend it, so it must not come as a broken pool."""
        nothing = replace(world.lists, labels=np.zeros_like(world.lists.labels))
        with pytest.raises(DataError, match="none among"):
            world.fit(nothing, processes=2)

    def test_a_users_feedback_never_reaches_the_model_that_scores_it(
        self, world: World, models: RewardModels
    ) -> None:
        """Turn a user's labels round: the other folds' models change, the user's own does not."""
        user = 5
        labels = world.lists.labels.copy()
        labels[world.lists.user == user] ^= 1
        turned = world.fit(replace(world.lists, labels=labels))
        own = int(models.fold[user])
        assert _same_weights(turned, models, own)
        assert not _same_weights(turned, models, 1 - own)

    def test_users_outside_training_reach_no_model(
        self, world: World, models: RewardModels
    ) -> None:
        labels = world.lists.labels.copy()
        outside = ~(world.trainers | world.validators)[world.lists.user]
        labels[outside] ^= 1
        turned = world.fit(replace(world.lists, labels=labels))
        assert all(_same_weights(turned, models, fold) for fold in range(2))

    def test_stored_and_loaded(self, world: World, models: RewardModels, tmp_path: Path) -> None:
        world.fit(folder=tmp_path)
        loaded = RewardModels.load(tmp_path)
        rows = world.rows(0, 2)
        expected = reward_texts(models, world.inputs, world.lists, rows, k=5)
        assert reward_texts(loaded, world.inputs, world.lists, rows, k=5).equals(expected)
        assert not list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.pkl"))

    def test_a_missing_fold_is_named(self, world: World, tmp_path: Path) -> None:
        world.fit(folder=tmp_path)
        for folder in tmp_path.glob("fold-1-*"):
            shutil.rmtree(folder)
        with pytest.raises(WorkspaceError, match=r"folds 0 to 1.*none of fold 1"):
            RewardModels.load(tmp_path)


class TestRewards:
    def test_a_text_that_tells_the_truth_earns_more(
        self, world: World, models: RewardModels
    ) -> None:
        """For users the model was trained on others' lists for, and for unknown ones alike."""
        rewards = reward_texts(models, world.inputs, world.lists, world.rows(0, 2), k=5)
        for metric in ("ndcg", "log_likelihood"):
            true, false = (
                rewards.filter(sample=sample).sort("user")[metric].to_numpy() for sample in (0, 1)
            )
            assert (true > false).mean() > 0.9
            assert true.mean() > false.mean() + 0.1

    def test_by_hand_from_the_right_models_scores(self, world: World, models: RewardModels) -> None:
        """A user of a fold: that fold's model. A user of none: the mean over all models."""
        rows = world.rows(0, 2)
        found = reward_texts(models, world.inputs, world.lists, rows, k=3)
        outsider = N_USERS - 1
        for user in (int(np.flatnonzero(models.fold == 0)[0]), 27, outsider):
            own = world.lists.user == user
            part, part_rows = world.lists.select(own), rows[own]
            judges = [0, 1] if user == outsider else [int(models.fold[user])]
            ndcg, likelihood = [], []
            for judge in judges:
                scores = models.models[judge][0].score(world.inputs, part, part_rows)
                ndcg.append(list_metrics(part.labels, scores, [3])["ndcg@3"])
                likelihood.append(log_likelihood(part.labels, scores))
            for sample in (0, 1):
                row = found.row(
                    by_predicate=(pl.col("user") == user) & (pl.col("sample") == sample), named=True
                )
                assert row["n_lists"] == N_CHUNKS
                values = np.mean(ndcg, axis=0)[:, sample], np.mean(likelihood, axis=0)[:, sample]
                for metric, lists in zip(("ndcg", "log_likelihood"), values, strict=True):
                    assert row[metric] == pytest.approx(lists.mean(), abs=1e-6)
                    assert row[f"{metric}_even"] == pytest.approx(lists[::2].mean(), abs=1e-6)
                    assert row[f"{metric}_odd"] == pytest.approx(lists[1::2].mean(), abs=1e-6)

    def test_not_scored_is_null_and_never_low(self, world: World, models: RewardModels) -> None:
        rows = world.rows(0, 2)
        rows[world.lists.user == 3, 1] = -1
        rewards = reward_texts(models, world.inputs, world.lists, rows, k=5)
        (missing,) = rewards.filter(pl.col("ndcg").is_null()).rows(named=True)
        assert (missing["user"], missing["sample"], missing["n_lists"]) == (3, 1, 0)
        assert all(missing[name] is None for name in rewards.columns[2:] if name != "n_lists")
        assert not rewards.select(pl.col(pl.Float64).is_nan().any()).transpose().to_series().any()
        # The others' rewards are what they were.
        whole = reward_texts(models, world.inputs, world.lists, world.rows(0, 2), k=5)
        kept = (pl.col("user") != 3) | (pl.col("sample") != 1)
        for name in ("ndcg", "log_likelihood"):
            np.testing.assert_allclose(
                rewards.filter(kept)[name].to_numpy(),
                whole.filter(kept)[name].to_numpy(),
                atol=1e-6,
            )

    def test_lists_that_say_nothing_are_passed_over(
        self, world: World, models: RewardModels
    ) -> None:
        """User 0 keeps two lists of four; user 1 keeps none and has no reward at all."""
        labels = world.lists.labels.copy()
        labels[0] = 0
        labels[1] = 1
        labels[N_CHUNKS : 2 * N_CHUNKS] = 0
        lists = replace(world.lists, labels=labels)
        rewards = reward_texts(models, world.inputs, lists, world.rows(0), k=5)
        assert rewards.filter(user=0)["n_lists"].to_list() == [2]
        assert 1 not in rewards["user"].to_list()
        left = np.arange(2, 2 * N_CHUNKS)
        only = reward_texts(
            models, world.inputs, world.lists.select(left[:2]), world.rows(0)[left[:2]], k=5
        )
        assert rewards.filter(user=0)["ndcg"].item() == pytest.approx(only["ndcg"].item(), abs=1e-6)

    def test_one_half_may_be_missing(self, world: World, models: RewardModels) -> None:
        first = world.lists.select(world.lists.chunk == 0)
        rows = world.rows(0)[world.lists.chunk == 0]
        rewards = reward_texts(models, world.inputs, first, rows, k=5)
        assert rewards["ndcg_odd"].null_count() == N_USERS
        assert rewards["ndcg_even"].null_count() == 0

    def test_no_lists_no_rewards(self, world: World, models: RewardModels) -> None:
        nothing = world.lists.select(np.zeros(len(world.lists), dtype=bool))
        rewards = reward_texts(models, world.inputs, nothing, world.rows(0)[:0], k=5)
        assert rewards.height == 0

    def test_order_and_company_do_not_matter(self, world: World, models: RewardModels) -> None:
        rows = world.rows(0, 1, 2)
        whole = reward_texts(models, world.inputs, world.lists, rows, k=5)
        order = np.random.default_rng(0).permutation(len(world.lists))
        shuffled = reward_texts(models, world.inputs, world.lists.select(order), rows[order], k=5)
        some = world.lists.user % 3 == 1
        part = reward_texts(models, world.inputs, world.lists.select(some), rows[some], k=5)
        for found, expected in ((shuffled, whole), (part, whole.filter(pl.col("user") % 3 == 1))):
            assert found.select("user", "sample").equals(expected.select("user", "sample"))
            for name in ("ndcg", "log_likelihood", "log_likelihood_even"):
                np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
