"""How many users are written for at once. What is written: tests/test_loop.py."""

from __future__ import annotations

import pytest

from rlrf4rec.config import Config, load_config
from rlrf4rec.stages.writing import _prompts_for_texts
from small_run import write_config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("writing")
    return load_config(write_config(folder, folder / "model"), [])


@pytest.mark.parametrize(
    ("engine", "n_samples", "plan", "share"),
    [
        pytest.param("openvino", 4, {0: 4, 1: 4}, 1, id="all texts of each"),
        pytest.param("openvino", 4, {0: 1, 1: 1}, 4, id="one of four"),
        pytest.param("openvino", 10, {0: 4, 1: 1}, 2, id="at most four of ten"),
        pytest.param("openvino", 10, {0: 1}, 4, id="never more than four times"),
        pytest.param("openvino", 2, {0: 3}, 1, id="more than N"),
        pytest.param("transformers", 4, {0: 1}, 1, id="an engine that puts nothing off"),
    ],
)
def test_fewer_texts_a_user_more_users_at_once(
    config: Config, engine: str, n_samples: int, plan: dict[int, int], share: int
) -> None:
    changed = config.model_copy(
        update={
            "machine": config.machine.model_copy(update={"engine": engine}),
            "generation": config.generation.model_copy(update={"n_samples": n_samples}),
        }
    )
    assert _prompts_for_texts(changed, plan) == share
