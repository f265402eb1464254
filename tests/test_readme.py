"""The README tells the truth: its figures are the committed run's, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from make_configuration import PAGE, page

from finished_run import make_finished_run
from rlrf4rec.evaluation.results import read_results
from table import BY_USER, METRIC, comparisons_markdown, results_markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


FILMS, SHOP = README.split("### A shop")


@pytest.mark.parametrize(
    ("folder", "text", "metrics"),
    [("ml-100k", FILMS, (METRIC, BY_USER)), ("amazon-industrial", SHOP, (METRIC,))],
)
def test_the_tables_are_those_of_the_committed_runs(
    folder: str, text: str, metrics: tuple[str, ...]
) -> None:
    results = read_results(ROOT / "benchmarks" / "results" / folder / "results.json")
    assert results_markdown(results).strip() in text
    tables = re.findall(r"^\| difference, .*?\n\n", text, flags=re.MULTILINE | re.DOTALL)
    for table, metric in zip(tables, metrics, strict=True):
        pairs = re.findall(r"^\| `(\w+)` − `(\w+)` \|", table, flags=re.MULTILINE)
        assert pairs
        assert table.strip() == comparisons_markdown(results, pairs, metric=metric)


def test_the_python_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert code is not None
    monkeypatch.chdir(ROOT)
    finished = make_finished_run(tmp_path)
    exec(compile(code[1].replace("runs/demo", str(finished)), "README.md", "exec"), {})


def test_the_list_of_settings_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
