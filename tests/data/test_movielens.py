"""MovieLens in each published format, written by hand byte for byte, and the real packaged data."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import polars as pl
import pytest

from rlrf4rec.config import Config, parse_config
from rlrf4rec.data import load_dataset
from rlrf4rec.data.movielens import load_movielens
from rlrf4rec.errors import DataError, MissingPartError
from rlrf4rec.records import Dataset

ROWS = [(user, item, 1 + (user + item) % 5, 880000000 + item) for user in (1, 2) for item in (1, 2)]
SMALL_LISTS = {"chunk_size": 1, "min_history": 1}


def load(folder: Path) -> Dataset:
    return load_dataset(parse_config({"data": {"path": str(folder)}, "lists": SMALL_LISTS}))


def write_100k(folder: Path) -> None:
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in ROWS))
    toy_story = ["0"] * 19
    for genre in (3, 4, 5):
        toy_story[genre] = "1"
    unknown = ["1"] + ["0"] * 18
    (folder / "u.item").write_bytes(
        (
            "1|Toy Story (1995)|01-Jan-1995||http://x/?a=b|" + "|".join(toy_story) + "\n"
            '2|"Misérables", Les|||http://y|' + "|".join(unknown) + "\n"
        ).encode("latin-1")
    )


def write_1m(folder: Path, newline: str = "\n") -> None:
    def put(name: str, lines: list[str]) -> None:
        (folder / name).write_bytes("".join(line + newline for line in lines).encode("latin-1"))

    put("ratings.dat", ["::".join(map(str, row)) for row in ROWS])
    put(
        "movies.dat",
        ["1::Toy Story (1995)::Animation|Children's|Comedy", "2::Café: le film (1997)::Film-Noir"],
    )
    put("users.dat", ["1::F::1::10::48067", "2::M::56::16::70072"])


def write_latest(folder: Path) -> None:
    lines = "".join(",".join(map(str, row)) + "\n" for row in ROWS)
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + lines)
    (folder / "movies.csv").write_text(
        "movieId,title,genres\n"
        '1,"American President, The (1995)",Comedy|Drama|Romance\n'
        '2,"Serie ""A"" (2006\u20132007)",(no genres listed)\n',
        encoding="utf-8",
    )


def test_100k(tmp_path: Path) -> None:
    write_100k(tmp_path)
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|94043\n")
    data = load(tmp_path)
    assert data.name == "ml-100k"
    assert data.items.rows() == [
        (0, "1", "Toy Story", "1995; Animation, Children's, Comedy"),
        (1, "2", 'Les "Misérables"', ""),
    ]
    assert data.users.rows() == [
        (0, "1", "24-year-old male technician"),
        (1, "2", "53-year-old female"),
    ]
    assert data.interactions.rows() == [(0, 0, 3, 0), (0, 1, 4, 1), (1, 0, 4, 0), (1, 1, 5, 1)]


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("Full Monty, The (1997)", "The Full Monty"),
        ("Enfer, L' (1994)", "L'Enfer"),
        ("American in Paris, An (1951)", "An American in Paris"),
        (
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
            "The City of Lost Children (Cité des enfants perdus, La)",
        ),
        # No article: a title with a comma, and one whose end only looks like an article.
        ("Murder, My Sweet (1944)", "Murder, My Sweet"),
        ("Bye Bye, Love (1995)", "Bye Bye, Love"),
        ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly"),
    ],
)
def test_an_article_goes_back_to_the_front(tmp_path: Path, title: str, said: str) -> None:
    write_100k(tmp_path)
    films = (tmp_path / "u.item").read_bytes().decode("latin-1")
    renamed = films.replace("Toy Story (1995)", title)
    (tmp_path / "u.item").write_bytes(renamed.encode("latin-1"))
    assert load(tmp_path).items["title"][0] == said


def test_100k_without_users(tmp_path: Path) -> None:
    write_100k(tmp_path)
    assert load(tmp_path).users["profile"].to_list() == ["", ""]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_1m(tmp_path: Path, newline: str) -> None:
    write_1m(tmp_path, newline)
    data = load(tmp_path)
    assert data.name == "ml-1m"
    assert data.items.rows() == [
        (0, "1", "Toy Story", "1995; Animation, Children's, Comedy"),
        (1, "2", "Café: le film", "1997; Film-Noir"),
    ]
    assert data.users["profile"].to_list() == [
        "female K-12 student, under 18",
        "male self-employed, aged 56 or over",
    ]
    assert data.interactions["rating"].to_list() == [3, 4, 4, 5]


def test_latest(tmp_path: Path) -> None:
    folder = tmp_path / "ml-latest-small"
    folder.mkdir()
    write_latest(folder)
    data = load(folder)
    assert data.name == "ml-latest-small"
    assert data.items.rows() == [
        (0, "1", "The American President", "1995; Comedy, Drama, Romance"),
        (1, "2", 'Serie "A"', "2006"),
    ]
    assert data.users["profile"].to_list() == ["", ""]


def test_packaged_form_keeps_quotes(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        + "".join("\t".join(map(str, row)) + "\n" for row in ROWS)
    )
    (tmp_path / "x.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        '1\t"Open quote\t1995\tAction Sci-Fi\n2\tunkonwn\tV\tunknown\n'
    )
    data = load(tmp_path)
    assert data.name == "x"
    assert data.items["title"].to_list() == ['"Open quote', "unkonwn"]
    assert data.items["details"].to_list() == ["1995; Action, Sci-Fi", ""]


@pytest.mark.skipif(importlib.util.find_spec("recbole") is None, reason="needs the recbole wheel")
def test_real_packaged_100k() -> None:
    data = load_dataset(Config())
    assert (data.n_users, data.n_items, data.interactions.height) == (943, 1682, 100_000)
    assert data.name == "ml-100k"
    assert data.dropped == {}
    assert data.users.row(0) == (0, "1", "24-year-old male technician")
    assert data.items.row(0) == (0, "1", "Toy Story", "1995; Animation, Children's, Comedy")
    assert data.items["item_id"].to_list() == [str(n) for n in range(1, 1683)]
    log = data.interactions
    assert log.equals(log.sort("user", "position"))
    assert log["rating"].value_counts().sort("rating")["count"].to_list() == [
        6110, 11370, 27145, 34174, 21201,
    ]  # fmt: skip


def test_packaged_data_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match="pip install --no-deps recbole"):
        load_movielens(None)


def test_folder_missing_or_strange(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        load_movielens(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"u\.data.*notes\.txt"):
        load_movielens(tmp_path)


def test_missing_companion_file(tmp_path: Path) -> None:
    write_100k(tmp_path)
    (tmp_path / "u.item").unlink()
    with pytest.raises(DataError, match=r"a file at .*u\.item"):
        load_movielens(tmp_path)


def test_row_with_too_few_fields(tmp_path: Path) -> None:
    write_1m(tmp_path)
    with (tmp_path / "ratings.dat").open("a") as file:
        file.write("3::1::5\n")
    with pytest.raises(DataError, match=r"ratings\.dat, row 5: 3 fields"):
        load_movielens(tmp_path)


def test_file_of_another_version(tmp_path: Path) -> None:
    write_latest(tmp_path)
    pl.read_csv(tmp_path / "movies.csv").rename({"movieId": "id"}).write_csv(
        tmp_path / "movies.csv"
    )
    with pytest.raises(DataError, match="no movieId among id, title, genres"):
        load_movielens(tmp_path)
