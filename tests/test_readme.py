"""The README tells the truth: its figures are the committed run's, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from make_configuration import PAGE, page

from finished_run import make_finished_run
from write_tables import PAGES, with_tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_committed_runs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_tables(text) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_table_is_looked_after(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    rows = re.compile(r"^\| `.*\d\.\d{3}.*$", flags=re.MULTILINE)
    assert rows.search(text)
    wrong = rows.sub(lambda row: re.sub(r"\d\.\d{3}", "9.999", row[0]), text)
    assert with_tables(wrong) == text


def test_the_python_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert code is not None
    monkeypatch.chdir(ROOT)
    finished = make_finished_run(tmp_path)
    exec(compile(code[1].replace("runs/demo", str(finished)), "README.md", "exec"), {})


def test_the_list_of_settings_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
