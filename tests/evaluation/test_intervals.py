import numpy as np
import pytest
from scipy.stats import bootstrap

from rlrf4rec.evaluation.intervals import Comparison, Estimate, _draw_users, compare, estimate

RNG = np.random.default_rng(0)
USER = np.sort(RNG.integers(80, size=900))
# A user's lists are alike: most of the spread is between users.
VALUES = RNG.normal(0.5, 0.1, size=80)[USER] + RNG.normal(0, 0.02, size=900)


def _ratio(sums, counts, axis):
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def test_interval_agrees_with_scipy():
    sums, counts = np.bincount(USER, weights=VALUES), np.bincount(USER)
    theirs = bootstrap(
        (sums, counts), _ratio, paired=True, vectorized=True, method="percentile",
        n_resamples=20_000, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    ours = estimate(VALUES, USER, resamples=20_000)
    assert ours.mean == pytest.approx(VALUES.mean())
    assert ours.ci95 == pytest.approx(tuple(theirs), abs=0.05 * (theirs.high - theirs.low))


def test_users_are_resampled_not_lists():
    by_user = estimate(VALUES, USER)
    by_list = estimate(VALUES, np.arange(len(VALUES)))
    assert by_user.n_users == 80
    assert by_list.n_users == 900
    assert by_user.ci95[1] - by_user.ci95[0] > 2 * (by_list.ci95[1] - by_list.ci95[0])


def test_mean_is_over_lists():
    """User 0 has three lists of 1, user 1 one list of 0: 3 / 4. A resample is 0, 3/4 or 1."""
    found = estimate([1, 1, 1, 0], [0, 0, 0, 1])
    assert found == Estimate(0.75, (0.0, 1.0), n_users=2, n_lists=4)


def test_lists_that_are_not_scored_are_left_out():
    values = np.append(VALUES, [np.nan, np.nan])
    user = np.append(USER, [3, 999])
    assert estimate(values, user) == estimate(VALUES, USER)


def test_seeds_are_averaged_and_not_counted_as_users():
    seeds = np.stack([VALUES - 0.1, VALUES, VALUES + 0.1])
    one, three = estimate(VALUES, USER), estimate(seeds, USER)
    assert three.n_lists == one.n_lists
    assert three.ci95 == pytest.approx(one.ci95)


def test_same_seed_same_interval():
    assert estimate(VALUES, USER, seed=4) == estimate(VALUES, USER, seed=4)
    assert estimate(VALUES, USER, seed=4) != estimate(VALUES, USER, seed=5)


def test_names_and_order_of_users_do_not_matter():
    order = RNG.permutation(900)
    renamed = compare(VALUES[order], 0 * VALUES, USER[order] + 10**9)
    assert renamed.ci95 == pytest.approx(compare(VALUES, 0 * VALUES, USER).ci95)


def test_a_paired_difference_is_found_that_two_intervals_would_hide():
    better = VALUES + RNG.normal(0.004, 0.01, size=900)
    found = compare(better, VALUES, USER)
    assert found.diff == pytest.approx((better - VALUES).mean())
    assert 0 < found.ci95[0] < found.diff < found.ci95[1] < 0.01
    assert found.p == pytest.approx(2 / 2001)  # no resample at or below 0
    assert estimate(VALUES, USER).ci95[1] > estimate(better, USER).ci95[0]


def test_compare_is_antisymmetric():
    other = VALUES[::-1]
    there, back = compare(VALUES, other, USER), compare(other, VALUES, USER)
    assert back.diff == pytest.approx(-there.diff)
    assert back.ci95 == pytest.approx((-there.ci95[1], -there.ci95[0]))
    assert back.p == pytest.approx(there.p)


def test_p_and_interval_say_the_same():
    for shift in np.linspace(-0.03, 0.03, 13):
        found = compare(VALUES - VALUES.mean() + shift, np.zeros(900), USER)
        assert (found.p < 0.05) == (found.ci95[0] > 0 or found.ci95[1] < 0)


def test_under_no_difference_p_is_uniform():
    rng = np.random.default_rng(7)
    user = np.repeat(np.arange(60), 3)
    effects = rng.normal(size=(300, 60))[:, user]
    ps = np.array([compare(row, np.zeros(180), user, resamples=400).p for row in effects])
    assert 0.02 < (ps < 0.05).mean() < 0.10
    assert 0.4 < ps.mean() < 0.6


def test_equal_systems_differ_by_nothing():
    assert compare(VALUES, VALUES, USER) == Comparison(0.0, (0.0, 0.0), 1.0, 80, 900)


def test_too_few_users():
    assert estimate([], []) == Estimate(None, None, 0, 0)
    assert estimate([np.nan], [4]) == Estimate(None, None, 0, 0)
    assert estimate([0.2, 0.4], [7, 7]) == Estimate(pytest.approx(0.3), None, 1, 2)
    assert compare([0.5], [0.25], [7]) == Comparison(0.25, None, None, 1, 1)
    assert compare([], [], []) == Comparison(None, None, None, 0, 0)


def test_blocks_of_draws_differ():
    first, second = _draw_users(50, 8, 0, 0), _draw_users(50, 8, 8, 0)
    assert (first != second).any()
    assert (np.concatenate([first, second]).sum(axis=1) == 50).all()


def test_many_users_are_drawn_in_blocks():
    n_users = 50_000
    values = np.random.default_rng(2).normal(size=n_users)
    found = estimate(values, np.arange(n_users), resamples=200)  # blocks of 83 resamples
    half_width = (found.ci95[1] - found.ci95[0]) / 2
    assert half_width == pytest.approx(1.96 / n_users**0.5, rel=0.25)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        estimate([1.0, 2.0], [0])
    with pytest.raises(ValueError, match=r"\[seeds, n\]"):
        estimate(np.zeros((1, 1, 1)), [0])
