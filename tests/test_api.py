"""The package's own face: what is imported when, and a finished run as an object."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rlrf4rec
from finished_run import N_USERS, make_finished_run
from rlrf4rec import RLRF4RecError, load_run
from rlrf4rec.api import Run
from rlrf4rec.serving import RankRequest


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(make_finished_run(tmp_path_factory.mktemp("api") / "run"))


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = (
        "import sys, rlrf4rec\n"
        "heavy = ('torch', 'transformers', 'polars', 'numpy', 'pydantic', 'typer')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_every_public_name_can_be_had() -> None:
    for name in rlrf4rec.__all__:
        assert getattr(rlrf4rec, name).__module__.startswith("rlrf4rec.")
        assert name in dir(rlrf4rec)
    with pytest.raises(AttributeError, match="nothing_of_the_sort"):
        rlrf4rec.nothing_of_the_sort  # noqa: B018


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project.get("version", rlrf4rec.__version__) == rlrf4rec.__version__


def test_a_run_shows_its_results_and_texts(run: Run) -> None:
    assert run.results.dataset == "tastes"
    assert run.texts.columns == ["user_id", "sample", "text"]
    assert run.texts.height == N_USERS
    assert run.texts.row(0) == ("u0", 0, "Genres: taste 0")


def test_a_run_reranks(run: Run) -> None:
    ranking = run.rerank(["i1", "i9", "new"], user_id="u0")
    assert len(ranking) == 3
    assert run.rerank_many([RankRequest(["i1", "i9", "new"], user_id="u0")]) == [ranking]
    assert run.reranker is run.reranker


def test_what_is_no_finished_run_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RLRF4RecError, match=r"no run\.json"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_bytes((run.folder / "run.json").read_bytes())
    with pytest.raises(RLRF4RecError, match=r"results\.json"):
        load_run(tmp_path)


def test_a_run_without_its_texts_says_so(run: Run, tmp_path: Path) -> None:
    lost = Run(tmp_path, run.results)
    with pytest.raises(RLRF4RecError, match=r"texts\.parquet"):
        _ = lost.texts
