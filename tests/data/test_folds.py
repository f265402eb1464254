"""User folds: sizes by hand, and that nobody is trained on and tested at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlrf4rec.config import FoldsConfig
from rlrf4rec.data import folds_from_frame, folds_to_frame, make_folds
from rlrf4rec.data.folds import with_background
from rlrf4rec.errors import DataError
from rlrf4rec.records import Folds

CROSS = FoldsConfig(protocol="cross")
SPLIT = FoldsConfig(protocol="split")


def equal(first: Folds, second: Folds) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("half", "role", "fold")
    )


def test_split_by_hand() -> None:
    """100 users: 10 test users; of the other 90, 9 are validation users."""
    folds = make_folds(100, SPLIT, 0)
    assert folds.protocol == "split"
    test = folds.role == "test"
    assert test.sum() == 10
    assert (folds.role == "validation").sum() == 9
    assert (folds.role == "train").sum() == 81
    assert (folds.half == test).all()
    assert (folds.fold[test] == 0).all()
    assert (folds.fold[~test] == -1).all()


def test_cross_by_hand() -> None:
    """103 users: halves of 51 and 52 with 5 validation users each; folds of 20 or 21."""
    folds = make_folds(103, CROSS, 0)
    assert folds.protocol == "cross"
    assert np.bincount(folds.half).tolist() == [51, 52]
    assert np.bincount(folds.half[folds.role == "validation"]).tolist() == [5, 5]
    assert sorted(np.bincount(folds.fold).tolist()) == [20, 20, 21, 21, 21]
    assert folds.n_folds == 5
    assert set(folds.role.tolist()) == {"train", "validation"}


def test_background_by_hand() -> None:
    """Of five users the second and the fourth are not written for."""
    folds = Folds(
        half=np.array([0, 1, 1]),
        role=np.array(["train", "validation", "train"]),
        fold=np.array([2, 0, 1]),
    )
    all_five = with_background(folds, np.array([True, False, True, False, True]))
    assert all_five.half.tolist() == [0, -1, 1, -1, 1]
    assert all_five.fold.tolist() == [2, -1, 0, -1, 1]
    assert all_five.n_folds == 3
    background = "background"
    assert all_five.role.tolist() == ["train", background, "validation", background, "train"]
    assert all_five.written.tolist() == [True, False, True, False, True]
    assert equal(all_five, folds_from_frame(folds_to_frame(all_five)))


@given(
    n_users=st.integers(5, 300),
    n_folds=st.integers(2, 5),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_always_balanced(n_users: int, n_folds: int, share: float, seed: int) -> None:
    config = FoldsConfig(
        recommender_folds=n_folds, validation_share=share, test_share=share, protocol="cross"
    )
    folds = make_folds(n_users, config, seed)
    for members in (np.ones(n_users, dtype=bool), folds.half == 0, folds.half == 1):
        assert np.ptp(np.bincount(folds.fold[members], minlength=n_folds)) <= 1
        assert {"train", "validation"} == set(folds.role[members].tolist())
    split = make_folds(n_users, config.model_copy(update={"protocol": "split"}), seed)
    assert {"train", "validation", "test"} == set(split.role.tolist())


def test_seeded() -> None:
    assert equal(make_folds(50, CROSS, 3), make_folds(50, CROSS, 3))
    assert not equal(make_folds(50, CROSS, 3), make_folds(50, CROSS, 4))


@pytest.mark.parametrize("config", [CROSS, SPLIT])
def test_frame_and_back(config: FoldsConfig) -> None:
    folds = make_folds(40, config, 0)
    frame = folds_to_frame(folds)
    assert frame.columns == ["user", "half", "role", "fold"]
    assert equal(folds_from_frame(frame.sample(fraction=1, shuffle=True, seed=0)), folds)


@pytest.mark.parametrize(("config", "n_users"), [(CROSS, 4), (SPLIT, 2), (CROSS, 0)])
def test_too_few_users(config: FoldsConfig, n_users: int) -> None:
    with pytest.raises(DataError, match=f"found {n_users} users"):
        make_folds(n_users, config, 0)
