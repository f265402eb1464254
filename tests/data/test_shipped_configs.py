"""The shipped configurations of public data sets, from file to data set, on miniature files."""

from __future__ import annotations

from pathlib import Path

import pytest
from amazon_samples import FULL, write_sample

from rlrf4rec.config import load_config
from rlrf4rec.data import load_dataset

CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = ["lists.chunk_size=1", "lists.min_history=1"]
NO_CORE = ["data.min_user_interactions=1", "data.min_item_interactions=1"]


@pytest.mark.parametrize("name", ["ml-1m", "amazon-books", "amazon-beauty"])
def test_the_papers_settings(name: str) -> None:
    """docs/concepts/method.md, column "paper"."""
    config = load_config(CONFIGS / f"{name}.yaml")
    alignment = config.alignment
    assert (config.generation.n_samples, config.rounds.n_rounds) == (10, 2)
    assert (alignment.beta, alignment.learning_rate, alignment.epochs) == (0.01, 5e-5, 3)
    assert (alignment.batch_size, alignment.gradient_accumulation) == (2, 8)
    assert (config.reward.metric, config.reward.k, config.prompt.history_size) == ("ndcg", 5, 25)
    assert (config.lists.list_size, config.lists.chunk_size) == (10, 4)
    assert config.lists.max_reading >= config.prompt.history_size
    assert config.data.positive_rating == (4 if name == "ml-1m" else 5)
    assert "uniform" in config.evaluation.kinds


@pytest.mark.parametrize("name", ["amazon-books", "amazon-beauty"])
@pytest.mark.parametrize(("year", "review_file", "meta_file"), FULL)
def test_amazon(tmp_path: Path, name: str, year: int, review_file: str, meta_file: str) -> None:
    write_sample(tmp_path, year, review_file, meta_file)
    settings = [f"data.path={tmp_path}", *SHORT, *NO_CORE]
    data = load_dataset(load_config(CONFIGS / f"{name}.yaml", settings))
    assert (data.name, data.n_users, data.n_items) == (name, 2, 3)


def test_ml_1m(tmp_path: Path) -> None:
    ratings = [f"1::{movie}::5::97830{movie}" for movie in range(1, 5)]
    (tmp_path / "ratings.dat").write_text("\n".join(ratings) + "\n")
    movies = [f"{movie}::Léon {movie} (1994)::Drama" for movie in range(1, 5)]
    (tmp_path / "movies.dat").write_bytes(("\n".join(movies) + "\n").encode("latin-1"))
    (tmp_path / "users.dat").write_text("1::M::25::12::02139\n")
    config = load_config(CONFIGS / "ml-1m.yaml", [f"data.path={tmp_path}", *SHORT])
    data = load_dataset(config)
    assert data.items["title"].to_list() == ["Léon 1", "Léon 2", "Léon 3", "Léon 4"]
    assert data.users["profile"].to_list() == ["male programmer, aged 25-34"]


def test_purchases(tmp_path: Path) -> None:
    """Five purchases: ceil(5 / 2) = 3 are read, and the shorter chunk of two is kept."""
    rows = "".join(f"ann,{item},{place}\n" for place, item in enumerate("cabde"))
    (tmp_path / "bought.csv").write_text("user_id,item_id,position\n" + rows)
    items = "".join(f"{item},Item {item},Brand {item}\n" for item in "abcdefghijklmno")
    (tmp_path / "things.csv").write_text("item_id,title,brand\n" + items)
    paths = {"interactions": "bought.csv", "items": "things.csv"}
    settings = [f"data.{key}={tmp_path / file}" for key, file in paths.items()]
    data = load_dataset(load_config(CONFIGS / "purchases.yaml", settings))
    assert data.interactions["item"].to_list() == [2, 0, 1, 3, 4]
    assert data.interactions["rating"].null_count() == 5
    assert data.items.row(0) == (0, "a", "Item a", "Brand a")
