"""A finished run, and the command line called in this process."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from calling import Call, call_rlrf4rec

from finished_run import make_finished_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_finished_run(tmp_path_factory.mktemp("cli") / "run")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """A command quietens libraries for its whole process; here that must end with the test."""
    environment = dict(os.environ)
    root = logging.getLogger()
    before = root.level, list(root.handlers), logging.getLogger("rlrf4rec").level
    with warnings.catch_warnings():
        yield
    os.environ.clear()
    os.environ.update(environment)
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    logging.getLogger("rlrf4rec").setLevel(before[2])


@pytest.fixture
def call() -> Call:
    """Runs ``rlrf4rec`` with the given arguments."""
    return call_rlrf4rec


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A log of the user's own: 6 users, 12 interactions each, 40 items."""
    rows = ["user_id,item_id,rating"]
    rows += [f"u{user},i{(user * 5 + n) % 40},{3 + n % 3}" for user in range(6) for n in range(12)]
    (tmp_path / "log.csv").write_text("\n".join(rows), encoding="utf-8")
    titles = ["item_id,title"] + [f"i{n},Title {n}" for n in range(40)]
    (tmp_path / "items.csv").write_text("\n".join(titles), encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(
        "data:\n"
        "  name: mine\n"
        "  source: table\n"
        "  interactions: log.csv\n"
        "  items: items.csv\n"
        "  columns: {rating: rating}\n"
        "folds: {protocol: split, test_share: 0.34}\n"
        "prompt: {template: generic}\n",
        encoding="utf-8",
    )
    return path
