"""The reranker of a finished run: whom it knows, what it passes over, batches against singles."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finished_run import HISTORY_SIZE, N_ITEMS, TEXTLESS_USER, make_finished_run
from rlrf4rec.errors import RequestError, WorkspaceError
from rlrf4rec.recommenders import FittedRecommender, ListInputs
from rlrf4rec.records import CandidateLists, Histories
from rlrf4rec.serving import Ranking, RankRequest, Reranker

CANDIDATES = ["i0", "i6", "i12", "i21", "i29"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_finished_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def reranker(folder: Path) -> Reranker:
    return Reranker.load(folder)


def scores(ranking: Ranking) -> dict[str, float | None]:
    return {item.item_id: item.score for item in ranking}


def stored_history(folder: Path, user: int) -> list[tuple[str, float | None]]:
    stored = load_file(folder / "deployed" / "histories.safetensors")
    return [
        (f"i{item}", float(rating))
        for item, rating in zip(stored["items"][user], stored["ratings"][user], strict=True)
    ]


def test_candidates_come_best_first(reranker: Reranker) -> None:
    ranking = reranker.rerank(CANDIDATES, user_id="u0")
    given = [item.score for item in ranking if item.score is not None]
    assert sorted(item.item_id for item in ranking) == sorted(CANDIDATES)
    assert given == sorted(given, reverse=True)
    assert [item.rank for item in ranking] == [1, 2, 3, 4, 5]
    assert ranking.known_user


@pytest.mark.parametrize(
    ("ratings", "given", "told"),
    [
        ("[1.0, 5.0]", 5.5, r"ratings from 1 to 5.*found 5\.5 at place 1"),
        ("[1.0, 5.0]", 0.5, r"ratings from 1 to 5.*found 0\.5 at place 1"),
        ("null", 3.0, "no ratings, as in the log"),
    ],
)
def test_a_rating_on_another_scale_is_refused(
    folder: Path, tmp_path: Path, ratings: str, given: float, told: str
) -> None:
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run/deployed/log.json").write_text(f'{{"ratings": {ratings}}}')
    reranker = Reranker.load(tmp_path / "run")
    with pytest.raises(RequestError, match=told):
        reranker.rerank(CANDIDATES, history=[("i1", None), ("i2", given)])
    assert len(reranker.rerank(CANDIDATES, history=[("i1", None)])) == len(CANDIDATES)
    # Runs of before know no scale.
    (tmp_path / "run/deployed/log.json").unlink()
    Reranker.load(tmp_path / "run").rerank(CANDIDATES, history=[("i2", given)])


def test_what_is_no_request_is_named(reranker: Reranker) -> None:
    for given in ({"user_id": "u0", "candidates": CANDIDATES}, ("u0", CANDIDATES)):
        with pytest.raises(RequestError, match=rf"found {type(given).__name__} at place 1"):
            reranker.rerank_many([RankRequest(CANDIDATES, "u0"), given])  # type: ignore[list-item]


def test_many_at_once_are_ranked_as_one_by_one(reranker: Reranker) -> None:
    requests = [
        RankRequest(CANDIDATES, user_id="u0"),
        RankRequest(CANDIDATES[:2], user_id="u9"),
        RankRequest(CANDIDATES[::-1], user_id="u9", history=[("i3", 1.0)]),
        RankRequest(["new"], user_id="u1"),
        RankRequest(CANDIDATES, history=[("i7", 5.0), ("i8", None)]),
        RankRequest([*CANDIDATES, "new"], user_id="nobody"),
        RankRequest(CANDIDATES, user_id=TEXTLESS_USER),
    ]
    for request, together in zip(requests, reranker.rerank_many(requests), strict=True):
        alone = reranker.rerank(
            request.candidates, user_id=request.user_id, history=request.history
        )
        assert [item.item_id for item in together] == [item.item_id for item in alone]
        assert scores(together) == pytest.approx(scores(alone), abs=1e-5)
        assert together.known_user == alone.known_user


def test_nothing_asked_is_nothing_answered(reranker: Reranker) -> None:
    assert reranker.rerank_many([]) == []


def test_the_order_of_the_candidates_does_not_matter(reranker: Reranker) -> None:
    forwards = reranker.rerank(CANDIDATES, user_id="u5")
    backwards = reranker.rerank(CANDIDATES[::-1], user_id="u5")
    assert scores(forwards) == pytest.approx(scores(backwards), abs=1e-5)


def test_the_stored_text_changes_a_known_users_scores(folder: Path, reranker: Reranker) -> None:
    """With the stored history given as a stranger's, only the text is missing."""
    history = stored_history(folder, 0)
    known = reranker.rerank(CANDIDATES, user_id="u0")
    same = reranker.rerank(CANDIDATES, user_id="u0", history=history)
    stranger = reranker.rerank(CANDIDATES, history=history)
    assert scores(same) == pytest.approx(scores(known), abs=1e-6)
    assert scores(stranger) != pytest.approx(scores(known), abs=1e-4)
    assert not stranger.known_user


def test_a_user_without_a_text_is_ranked_by_id_alone(folder: Path, reranker: Reranker) -> None:
    user = int(TEXTLESS_USER[1:])
    known = reranker.rerank(CANDIDATES, user_id=TEXTLESS_USER)
    stranger = reranker.rerank(CANDIDATES, history=stored_history(folder, user))
    assert known.known_user
    assert scores(known) == pytest.approx(scores(stranger), abs=1e-6)


def test_an_unknown_user_without_a_history_has_read_nothing(reranker: Reranker) -> None:
    nobody = reranker.rerank(CANDIDATES, user_id="nobody")
    assert scores(nobody) == scores(reranker.rerank(CANDIDATES, history=[]))
    assert not nobody.known_user
    assert all(item.score is not None for item in nobody)


def test_unknown_candidates_come_last_in_the_order_given(reranker: Reranker) -> None:
    ranking = reranker.rerank(["new-b", "i1", "new-a", "i2"], user_id="u0")
    assert [item.known for item in ranking] == [True, True, False, False]
    assert [item.item_id for item in ranking][2:] == ["new-b", "new-a"]
    assert [item.score for item in ranking][2:] == [None, None]
    assert [item.rank for item in ranking] == [1, 2, 3, 4]
    # The known ones are scored as if the unknown ones were not there.
    without = reranker.rerank(["i1", "i2"], user_id="u0")
    assert scores(ranking)["i1"] == pytest.approx(scores(without)["i1"], abs=1e-6)


def test_a_list_of_unknown_candidates_only_keeps_its_order(reranker: Reranker) -> None:
    ranking = reranker.rerank(["y", "x"], user_id="u0")
    assert [tuple(item) for item in ranking] == [("y", None, 1), ("x", None, 2)]


def test_unknown_history_items_are_passed_over_and_counted(reranker: Reranker) -> None:
    clean = reranker.rerank(CANDIDATES, history=[("i3", 5.0), ("i4", 2.0)])
    mixed = reranker.rerank(CANDIDATES, history=[("a", 5.0), ("i3", 5.0), ("b", 1), ("i4", 2.0)])
    assert mixed.n_unknown_history == 2
    assert clean.n_unknown_history == 0
    assert scores(mixed) == scores(clean)


def test_the_last_read_items_count_when_there_are_too_many(reranker: Reranker) -> None:
    last = [(f"i{item}", 4.0) for item in range(HISTORY_SIZE)]
    longer = [("i20", 1.0), ("i21", 5.0), *last]
    assert scores(reranker.rerank(CANDIDATES, history=longer)) == scores(
        reranker.rerank(CANDIDATES, history=last)
    )


def test_a_list_may_be_longer_than_those_of_training(reranker: Reranker) -> None:
    everything = [f"i{item}" for item in range(N_ITEMS)]
    assert len(reranker.rerank(everything, user_id="u0")) == N_ITEMS


def test_a_bad_request_is_refused(reranker: Reranker) -> None:
    with pytest.raises(RequestError, match="twice"):
        reranker.rerank(["i1", "i1"], user_id="u0")
    with pytest.raises(RequestError, match="neither"):
        reranker.rerank(["i1"])


def test_a_run_without_user_texts_can_be_served(tmp_path: Path) -> None:
    reranker = Reranker.load(make_finished_run(tmp_path / "run", user_texts=False))
    assert all(item.known for item in reranker.rerank(CANDIDATES, user_id="u0"))


def test_an_item_that_a_recommender_without_item_texts_never_met_is_unknown(
    tmp_path: Path,
) -> None:
    folder = make_finished_run(tmp_path / "run", item_texts=False, n_unmet_items=2)
    ranking = Reranker.load(folder).rerank([f"i{N_ITEMS + 1}", "i0"], user_id="u0")
    assert [tuple(item)[::2] for item in ranking] == [("i0", 1), (f"i{N_ITEMS + 1}", 2)]
    assert [item.known for item in ranking] == [True, False]


def test_an_item_that_has_only_a_text_is_known(tmp_path: Path) -> None:
    folder = make_finished_run(tmp_path / "run", n_unmet_items=2)
    ranking = Reranker.load(folder).rerank([f"i{N_ITEMS + 1}", "i0"], user_id="u0")
    assert all(item.known for item in ranking)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="deployed"):
        Reranker.load(tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        "vectors.safetensors",
        "histories.safetensors",
        "items.parquet",
        "users.parquet",
        "recommender/model.safetensors",
    ],
)
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_file_is_refused(folder: Path, tmp_path: Path, file: str, damage: str) -> None:
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "deployed" / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WorkspaceError):
        Reranker.load(tmp_path / "run")


def test_parts_of_different_runs_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "deployed" / "histories.safetensors"
    save_file({name: array[:-1].copy() for name, array in load_file(path).items()}, path)
    with pytest.raises(WorkspaceError, match="23 histories"):
        Reranker.load(tmp_path / "run")


def test_no_language_model_and_no_encoder_are_loaded(folder: Path) -> None:
    script = (
        "import sys\n"
        "from rlrf4rec.serving import Reranker\n"
        "Reranker.load(sys.argv[1]).rerank(['i1', 'i2'], user_id='u0')\n"
        "print([name for name in ('transformers', 'sentence_transformers') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_scores_are_those_of_the_recommender(folder: Path, reranker: Reranker) -> None:
    """What serving takes in once, for all requests, changes no score."""
    deployed = folder / "deployed"
    stored = load_file(deployed / "vectors.safetensors")
    histories = Histories(**load_file(deployed / "histories.safetensors"))
    inputs = ListInputs.from_numpy(histories, stored["items"], stored["texts"])
    plain = FittedRecommender.load(deployed / "recommender")
    items = np.array([[int(item[1:]) for item in CANDIDATES]])
    none = np.zeros(1, dtype=np.int64)
    for user, row in enumerate(stored["rows"]):
        lists = CandidateLists("request", np.array([user]), none, none, items, np.zeros_like(items))
        expected = plain.score(inputs, lists, np.array([row]))[0].tolist()
        ranking = scores(reranker.rerank(CANDIDATES, user_id=f"u{user}"))
        assert ranking == pytest.approx(dict(zip(CANDIDATES, expected, strict=True)), abs=1e-6)
