import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from rlrf4rec.errors import RLRF4RecError
from rlrf4rec.evaluation.metrics import cold_metrics, list_metrics, metric_names, ndcg, user_means


def test_values_worked_by_hand():
    """Ranks of the positives: 2, 4, 5. Ideal DCG@3 and @5: 1 + 1/log2(3) + 1/2 = 2.130930.

    NDCG@3: (1/log2 3) / 2.130930 = 0.630930 / 2.130930 = 0.296082
    NDCG@5: (1/log2 3 + 1/log2 5 + 1/log2 6) / 2.130930 = 1.448460 / 2.130930 = 0.679732
    Precision at the positives: 1/2, 2/4, 3/5.
    MAP@3: 0.5 / min(3, 3); over the hits: 0.5 / 1. MAP@5: 1.6 / min(5, 3), hits are all three.
    """
    found = list_metrics([[1, 0, 1, 1, 0]], [[0.6, 0.9, 0.8, 0.1, 0.7]], [1, 3, 5])
    expected = {
        "ndcg@1": 0, "ndcg@3": 0.296082, "ndcg@5": 0.679732,
        "map@1": 0, "map@3": 0.5 / 3, "map@5": 1.6 / 3,
        "map_hits@1": 0, "map_hits@3": 0.5, "map_hits@5": 1.6 / 3,
        "hr@1": 0, "hr@3": 1, "hr@5": 1,
        "mrr@1": 0, "mrr@3": 0.5, "mrr@5": 0.5, "mrr": 0.5,
    }  # fmt: skip
    assert list(found) == metric_names([1, 3, 5]) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == (1,)
        assert found[name][0] == pytest.approx(value, abs=1e-6), name


def test_map_divides_by_what_a_perfect_order_can_reach():
    """Three positives on top, k = 2: the precisions sum to 2. trec_eval's AP@2 is 2 / 3; ours 1."""
    found = list_metrics([[1, 1, 1, 0]], [[4, 3, 2, 1]], [2])
    assert found["map@2"][0] == pytest.approx(1)
    assert found["map_hits@2"][0] == pytest.approx(1)


@pytest.mark.parametrize("length", [3, 10, 70])  # 70: patterns longer than one 64-bit word
def test_agrees_with_scikit_learn(length):
    rng = np.random.default_rng(length)
    labels = (rng.random((60, length)) < 0.3).astype(int)
    labels[:, 0] = 1
    scores = rng.standard_normal((60, length))
    found = list_metrics(labels, scores, [1, 5, length])
    for k in (1, 5, length):
        rows = [ndcg_score(labels[[i]], scores[[i]], k=k) for i in range(60)]
        np.testing.assert_allclose(found[f"ndcg@{k}"], rows, atol=1e-9)
    whole = [average_precision_score(labels[i], scores[i]) for i in range(60)]
    np.testing.assert_allclose(found[f"map@{length}"], whole, atol=1e-9)


def test_several_texts_equal_one_at_a_time():
    rng = np.random.default_rng(3)
    labels = (rng.random((20, 10)) < 0.3).astype(int)
    scores = rng.standard_normal((20, 4, 10))
    together = ndcg(labels, scores, k=5)
    assert together.shape == (20, 4)
    for text in range(4):
        np.testing.assert_array_equal(together[:, text], ndcg(labels, scores[:, text], k=5))


def test_lists_without_a_positive():
    labels, scores = [[0, 0], [0, 1]], [[1.0, 2.0], [1.0, 2.0]]
    found = list_metrics(labels, scores, [5])
    parity = list_metrics(labels, scores, [5], without_positive="zero")
    for name in metric_names([5]):
        assert np.isnan(found[name][0])
        assert found[name][1] == 1
        assert parity[name].tolist() == [0, 1]
    assert np.isnan(ndcg([[0, 0]], [[1.0, 2.0]], 5)).all()


def test_ties_keep_the_candidates_order():
    assert ndcg([[1, 0, 0], [0, 0, 1]], np.zeros((2, 3)), k=3).tolist() == pytest.approx([1, 0.5])
    # numpy's default sort keeps the order of short lists only.
    # Here even places score 1 and odd places 0: place 2j comes at rank j + 1, 2j + 1 at j + 101.
    ranks = 1 / list_metrics(np.eye(200), np.tile([1.0, 0.0], (200, 100)), [1])["mrr"]
    np.testing.assert_allclose(ranks, np.arange(1, 201).reshape(2, 100).T.reshape(-1))


def test_order_of_lists_does_not_matter():
    rng = np.random.default_rng(5)
    labels = (rng.random((50, 6)) < 0.4).astype(int)
    scores = rng.standard_normal((50, 6))
    order = rng.permutation(50)
    shuffled = list_metrics(labels[order], scores[order], [3])
    for name, values in list_metrics(labels, scores, [3]).items():
        np.testing.assert_array_equal(values[order], shuffled[name])


def test_no_lists():
    found = list_metrics(np.zeros((0, 4)), np.zeros((0, 4)), [3])
    assert {values.shape for values in found.values()} == {(0,)}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    scores = np.zeros((3, 4))
    scores[2, 1] = bad
    with pytest.raises(RLRF4RecError, match=r"in list 2, candidate 1 .*learning_rate"):
        list_metrics(np.ones((3, 4)), scores, [3])


@pytest.mark.parametrize(
    ("labels", "scores", "ks"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), [1]),
        (np.zeros((2, 3)), np.zeros((3, 3)), [1]),
        (np.zeros(3), np.zeros(3), [1]),
        (np.full((2, 3), 2), np.zeros((2, 3)), [1]),
        (np.zeros((2, 3)), np.zeros((2, 3)), [0]),
    ],
)
def test_wrong_arguments_are_refused(labels, scores, ks):
    with pytest.raises(ValueError, match=r"labels|cut-offs"):
        list_metrics(labels, scores, ks)


def test_cold_metrics_by_hand() -> None:
    """Ranked warm positive, negative, cold positive: without the first, the cold one is second.

    1 / log2(3) = 0.6309. A list whose only positive is warm, and one whose only cold item is a
    negative, have no value.
    """
    labels = [[1, 0, 1], [1, 0, 0], [1, 0, 0]]
    scores = [[3.0, 2.0, 1.0]] * 3
    cold = [[False, False, True], [False, False, False], [False, True, False]]
    found = cold_metrics(labels, scores, cold, [1, 5])
    assert list(found) == ["cold_ndcg@1", "cold_ndcg@5"]
    np.testing.assert_allclose(found["cold_ndcg@5"], [0.6309, np.nan, np.nan], atol=1e-4)
    np.testing.assert_allclose(found["cold_ndcg@1"], [0, np.nan, np.nan])


def test_warm_positives_leave_a_cold_list_wherever_they_stand() -> None:
    """Warm positive first, then negative, then cold positive: the cold one is second of two."""
    found = cold_metrics([[1, 1, 0]], [[3.0, -2.0, -1.0]], [[False, True, False]], [5])
    np.testing.assert_allclose(found["cold_ndcg@5"], [0.6309], atol=1e-4)


def test_where_all_is_cold_nothing_is_left_out() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, (30, 6)), rng.normal(size=(30, 6))
    found = cold_metrics(labels, scores, np.ones((30, 6), dtype=bool), [3])
    np.testing.assert_array_equal(found["cold_ndcg@3"], list_metrics(labels, scores, [3])["ndcg@3"])


def test_a_user_s_mean_counts_once_however_many_lists() -> None:
    """User 4 ranks 1, 0 and 0.5, user 2 ranks 0.8; a list that is not scored has no say."""
    values = np.array([[np.nan, 1.0, 0.8, 0.0, 0.5]])
    users = np.array([4, 4, 2, 4, 4])
    (found,) = user_means(values, users)
    assert np.isnan(found[[0, 3, 4]]).all()
    assert found[1] == pytest.approx(0.5)
    assert found[2] == pytest.approx(0.8)
    assert np.nanmean(found) == pytest.approx(0.65)


def test_user_means_of_lists_none_of_which_is_scored() -> None:
    assert np.isnan(user_means(np.full((2, 3), np.nan), np.array([0, 0, 1]))).all()
