"""MovieLens in its published formats and as packaged in the `recbole` wheel.

F. Maxwell Harper and Joseph A. Konstan, *The MovieLens Datasets: History and Context*, ACM TiiS
2015. A format is recognised by its files.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import polars as pl

from rlrf4rec.data.download import OFFICIAL_ARCHIVES, download_movielens
from rlrf4rec.data.raw import (
    RawLog,
    RawTable,
    open_table,
    read_delimited,
    read_table,
    require_file,
)
from rlrf4rec.errors import DataError, MissingPartError
from rlrf4rec.paths import cache_root

# The flags at the end of a row of u.item, in the order of u.genre.
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip

# Codes of users.dat, from the README of ML-1M.
AGES_1M = {
    "1": "under 18", "18": "aged 18-24", "25": "aged 25-34", "35": "aged 35-44",
    "45": "aged 45-49", "50": "aged 50-55", "56": "aged 56 or over",
}  # fmt: skip
OCCUPATIONS_1M = {
    "0": "other", "1": "academic or educator", "2": "artist", "3": "clerical or admin worker",
    "4": "college or grad student", "5": "customer service worker",
    "6": "doctor or health care worker", "7": "executive or manager", "8": "farmer",
    "9": "homemaker", "10": "K-12 student", "11": "lawyer", "12": "programmer", "13": "retired",
    "14": "sales or marketing worker", "15": "scientist", "16": "self-employed",
    "17": "technician or engineer", "18": "tradesman or craftsman", "19": "unemployed",
    "20": "writer",
}  # fmt: skip

# What the sources write where a genre or an occupation is not known.
NO_GENRE = ("", "unknown", "(no genres listed)")
NO_OCCUPATION = ("", "other", "none")

# "(1995)", "(2006-2007)" or "(1995) (V)" (a video release) at a title's end.
YEAR = r"\s*\((\d{4})(?:[-\x{2013}](?:\d{4})?)?\)\s*(?:\(V\))?\s*$"

# "Full Monty, The" is said "The Full Monty", by people, LLMs and text encoders alike. Brackets
# stay as they are: "City of Lost Children, The (Cité des enfants perdus, La)".
_ARTICLE = "The|An?|Les?|La|Il|Lo|I|Las|Los|El|Das|Der|Die|Den|Det|Een"
ARTICLES = (
    (r"^([^(]+), (L')(\s*\(.*)?$", "${2}${1}${3}"),
    (rf"^([^(]+), ({_ARTICLE})(\s*\(.*)?$", "${2} ${1}${3}"),
)


def load_movielens(path: Path | None) -> RawLog:
    """Read a MovieLens folder.

    Args:
        path: the folder; None: ML-100K as packaged in the `recbole` wheel. A path that does not
            exist and whose last part is the name of an official archive, such as ``ml-1m``, is
            downloaded into the cache folder, once.

    Raises:
        DataError: the folder or one of its files is missing or is not as published.
        MissingPartError: no packaged data, or the download failed.
    """
    if path is None:
        path = packaged_folder()
    elif not path.exists() and path.name in OFFICIAL_ARCHIVES:
        path = download_movielens(path.name, cache_root() / "movielens")
    if not path.is_dir():
        raise DataError(
            "a folder with MovieLens files",
            found=f"{path} (not a folder)",
            remedy=f"Set data.path to an unpacked archive, or to one of "
            f"{', '.join(OFFICIAL_ARCHIVES)} to download it.",
        )
    readers: dict[str, Callable[[Path], RawLog]] = {
        "u.data": _read_100k,
        "ratings.dat": _read_1m,
        "ratings.csv": _read_latest,
    }
    for file, reader in readers.items():
        if (path / file).exists():
            return reader(path)
    packaged = sorted(path.glob("*.inter"))
    if len(packaged) == 1:
        return _read_packaged(packaged[0])
    found = ", ".join(sorted(child.name for child in path.iterdir())[:20]) or "an empty folder"
    raise DataError(
        "u.data, ratings.dat, ratings.csv or one *.inter file",
        found=f"{path}: {found}",
        remedy="Set data.path to the folder that holds these files.",
    )


def packaged_folder() -> Path:
    """The folder of ML-100K inside the `recbole` wheel, found without importing `recbole`.

    Raises:
        MissingPartError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("recbole")
    for location in (spec.submodule_search_locations if spec else None) or []:
        folder = Path(location) / "dataset_example" / "ml-100k"
        if folder.is_dir():
            return folder
    raise MissingPartError(
        "the packaged MovieLens-100K",
        found="no installed package 'recbole' with its example data",
        remedy="Run `pip install --no-deps recbole`, or set data.path to an unpacked MovieLens "
        "folder.",
    )


def _read_100k(folder: Path) -> RawLog:
    interactions = read_delimited(
        folder / "u.data", "\t", ["user_id", "item_id", "rating", "timestamp"]
    )
    head = ["item_id", "title", "release", "video", "url"]
    items = read_delimited(folder / "u.item", "|", [*head, *GENRES_100K], encoding="latin-1")
    genres = pl.concat_list(
        pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES_100K
    ).list.drop_nulls()
    users = None
    if (folder / "u.user").exists():
        columns = ["user_id", "age", "gender", "occupation", "zip"]
        users = read_delimited(folder / "u.user", "|", columns, encoding="latin-1")
    return RawLog("ml-100k", interactions, _movies(items, genres), _viewers(users))


def _read_1m(folder: Path) -> RawLog:
    interactions = read_delimited(
        folder / "ratings.dat", "::", ["user_id", "item_id", "rating", "timestamp"]
    )
    items = read_delimited(
        folder / "movies.dat", "::", ["item_id", "title", "genres"], encoding="latin-1"
    )
    columns = ["user_id", "gender", "age", "occupation", "zip"]
    users = read_delimited(folder / "users.dat", "::", columns, encoding="latin-1")
    genres = pl.col("genres").str.split("|")
    return RawLog("ml-1m", interactions, _movies(items, genres), _viewers(users))


def _read_latest(folder: Path) -> RawLog:
    require_file(folder / "movies.csv")
    interactions = _renamed(
        open_table(folder / "ratings.csv"),
        {
            "user_id": "userId",
            "item_id": "movieId",
            "rating": "rating",
            "timestamp": "timestamp",
        },
    )
    items = _renamed(
        read_table(folder / "movies.csv"),
        {"item_id": "movieId", "title": "title", "genres": "genres"},
    )
    return RawLog(folder.name, interactions, _movies(items, pl.col("genres").str.split("|")))


def _read_packaged(log: Path) -> RawLog:
    """Tab-separated files whose header names a column and its type, ``user_id:token``."""
    interactions = _renamed(
        _read_typed(log),
        {name: name for name in ("user_id", "item_id", "rating", "timestamp")},
    )
    items = _read_typed(log.with_suffix(".item"))
    genre = "genre" if "genre" in items.frame.columns else "class"
    items = _renamed(
        items,
        {"item_id": "item_id", "title": "movie_title", "year": "release_year", "genres": genre},
    )
    users = None
    if log.with_suffix(".user").exists():
        known = ("user_id", "age", "gender", "occupation")
        users = _renamed(_read_typed(log.with_suffix(".user")), {name: name for name in known})
    return RawLog(
        log.stem, interactions, _movies(items, pl.col("genres").str.split(" ")), _viewers(users)
    )


def _read_typed(path: Path) -> RawTable:
    table = read_delimited(path, "\t")
    frame = table.frame.rename(lambda column: column.partition(":")[0])
    return RawTable(path, frame, table.first_row)


def _renamed(table: RawTable, columns: dict[str, str]) -> RawTable:
    """The columns wanted, from our name to the file's."""
    missing = [name for name in columns.values() if name not in table.frame.columns]
    if missing:
        raise DataError(
            f"columns {', '.join(columns.values())} in {table.path}",
            found=f"no {', '.join(missing)} among {', '.join(table.frame.columns)}",
            remedy="Take the file from the original archive.",
        )
    return table.select(columns)


def _movies(table: RawTable, genres: pl.Expr) -> RawTable:
    """``item_id``, ``title`` as it is said, ``details`` such as ``1995; Action, Comedy``."""
    title = pl.col("title")
    name = title.str.replace(YEAR, "").str.strip_chars()
    for moved, put_back in ARTICLES:
        name = name.str.replace(moved, put_back)
    year = title.str.extract(YEAR)
    if "year" in table.frame.columns:
        year = pl.coalesce(pl.col("year").str.extract(r"^(\d{4})$"), year)
    known = genres.list.filter(~pl.element().is_in(list(NO_GENRE))).list.join(", ")
    details = pl.concat_str(
        year, pl.when(known != "").then(known), separator="; ", ignore_nulls=True
    )
    frame = table.frame.select("item_id", title=name, details=details)
    return RawTable(table.path, frame, table.first_row, table.names)


def _viewers(table: RawTable | None) -> RawTable | None:
    """``user_id``, ``profile`` such as ``24-year-old male technician``.

    ML-1M gives age bands and occupations by code: ``male programmer, aged 25-34``.
    """
    if table is None:
        return None
    age, occupation = pl.col("age"), pl.col("occupation")
    gender = pl.col("gender").replace_strict({"M": "male", "F": "female"}, default=None)
    coded = table.frame["occupation"].str.contains(r"^\d+$").all()
    if coded:
        occupation = occupation.replace(OCCUPATIONS_1M)
        band = age.replace_strict(AGES_1M, default=None)
    else:
        band = pl.lit(None, dtype=pl.String)
        age = pl.when(age.str.contains(r"^\d+$")).then(age + "-year-old")
    occupation = pl.when(~occupation.is_in(list(NO_OCCUPATION))).then(occupation)
    words = [gender, occupation] if coded else [age, gender, occupation]
    person = pl.concat_str(words, separator=" ", ignore_nulls=True)
    profile = pl.concat_str(
        pl.when(person != "").then(person), band, separator=", ", ignore_nulls=True
    )
    return RawTable(
        table.path, table.frame.select("user_id", profile=profile), table.first_row, table.names
    )
