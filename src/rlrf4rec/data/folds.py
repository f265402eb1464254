"""User folds: who is trained on, who chooses when to stop, who is tested."""

from __future__ import annotations

import numpy as np
import polars as pl

from rlrf4rec.config import Config, FoldsConfig
from rlrf4rec.data.seeds import sample_ids
from rlrf4rec.errors import DataError
from rlrf4rec.records import BACKGROUND, BoolArray, CandidateLists, Dataset, Folds, IntArray


def folds_of(dataset: Dataset, config: Config) -> Folds:
    """The folds of a run: of the users that its LLM writes for (``generation.max_users``).

    Raises:
        DataError: see `make_folds`.
    """
    limit = config.generation.max_users
    if limit is None or limit >= dataset.n_users:
        return make_folds(dataset.n_users, config.folds, config.seed)
    ids = dataset.users["user_id"]
    written = ids.is_in(sample_ids(ids, limit, config.seed)).to_numpy()
    return with_background(make_folds(limit, config.folds, config.seed), written)


def with_background(folds: Folds, written: BoolArray) -> Folds:
    """The folds of the ``written [u]`` users among all: the others are learned from alone."""
    half, fold = np.full((2, len(written)), -1)
    role = np.full(len(written), BACKGROUND, dtype="<U10")
    half[written], fold[written], role[written] = folds.half, folds.fold, folds.role
    return Folds(half, role, fold)


def make_folds(n_users: int, folds: FoldsConfig, seed: int) -> Folds:
    """Assign every user a half, a role and a recommender fold, in a seeded random order.

    ``split``: ``test_share`` of the users are test users (half 1, fold 0); the others train (half
    0, fold -1). ``cross``: two halves that differ by one user at most, and `recommender_folds`
    folds over all users, balanced within each half. In both, ``validation_share`` of each half's
    training users are validation users.

    Raises:
        DataError: too few users to give every part one.
    """
    needed = 3 if folds.protocol == "split" else max(4, folds.recommender_folds)
    if n_users < needed:
        raise DataError(
            f"at least {needed} users for protocol {folds.protocol!r}",
            found=f"{n_users} users",
            remedy="Keep more users (data.max_users, generation.max_users, lists.min_history), or "
            "lower folds.recommender_folds.",
        )
    order = np.random.default_rng(seed).permutation(n_users)
    if folds.protocol == "split":
        return _split(order, folds)
    return _cross(order, folds)


def folds_to_frame(folds: Folds) -> pl.DataFrame:
    """One row a user: ``user``, ``half``, ``role``, ``fold``, as it is stored."""
    return pl.DataFrame(
        {
            "user": np.arange(len(folds.half), dtype=np.int32),
            "half": folds.half.astype(np.int32),
            "role": folds.role.tolist(),
            "fold": folds.fold.astype(np.int32),
        },
        schema_overrides={"role": pl.String},
    )


def folds_from_frame(frame: pl.DataFrame) -> Folds:
    """The inverse of `folds_to_frame`; rows may come in any order."""
    frame = frame.sort("user")
    return Folds(
        half=frame["half"].to_numpy().astype(np.int64),
        role=np.array(frame["role"].to_list(), dtype=np.str_),
        fold=frame["fold"].to_numpy().astype(np.int64),
    )


def require_feedback(
    dataset: Dataset, lists: CandidateLists, folds: Folds, positive_rating: float
) -> None:
    """Check that there is something to learn from, before an LLM writes for hours.

    Raises:
        DataError: in some half, fewer than two training users have a list with both a positive
            and a negative, as cross-fitted rewards need.
    """
    telling = lists.labels.any(axis=1) & ~lists.labels.all(axis=1)
    for half in folds.policies:
        trainers = np.flatnonzero((folds.half == half) & (folds.role == "train"))
        n_telling = np.isin(trainers, lists.user[telling]).sum()
        if n_telling < 2:
            raise DataError(
                "at least two training users with a list that holds a positive and a negative",
                found=f"{n_telling} of the {len(trainers)} training users of LLM fold {half} "
                f"({dataset.n_users} users in all; data.positive_rating is {positive_rating:g}, "
                f"the log's highest rating {dataset.interactions['rating'].max()!r})",
                remedy="Set data.positive_rating to what a positive has in your log, or keep more "
                "users (data.max_users, generation.max_users, lists.min_history).",
            )


def _split(order: IntArray, folds: FoldsConfig) -> Folds:
    n = len(order)
    n_test = _share(folds.test_share, n, keep=2)
    test, train = order[:n_test], order[n_test:]
    half = np.zeros(n, dtype=np.int64)
    half[test] = 1
    fold = np.full(n, -1, dtype=np.int64)
    fold[test] = 0
    role = np.full(n, "train", dtype="<U10")
    role[test] = "test"
    role[train[: _share(folds.validation_share, len(train), keep=1)]] = "validation"
    return Folds(half, role, fold)


def _cross(order: IntArray, folds: FoldsConfig) -> Folds:
    n = len(order)
    half = np.zeros(n, dtype=np.int64)
    half[order[n // 2 :]] = 1
    # Dealt out in one go over both halves: balanced in each half and over all.
    fold = np.empty(n, dtype=np.int64)
    fold[order] = np.arange(n) % folds.recommender_folds
    role = np.full(n, "train", dtype="<U10")
    for members in (order[: n // 2], order[n // 2 :]):
        role[members[: _share(folds.validation_share, len(members), keep=1)]] = "validation"
    return Folds(half, role, fold)


def _share(share: float, n: int, keep: int) -> int:
    """The nearest whole number to ``share * n``, at least 1, with ``keep`` users left over."""
    return min(max(1, round(share * n)), n - keep)
