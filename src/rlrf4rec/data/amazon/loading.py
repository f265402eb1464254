"""A folder with a review file and a metadata file to a raw log."""

from __future__ import annotations

from pathlib import Path

from rlrf4rec.config import DataConfig
from rlrf4rec.data.amazon.metadata import read_items, year_of_metadata
from rlrf4rec.data.amazon.reviews import possible_years, read_reviews
from rlrf4rec.data.amazon.vintages import VINTAGES
from rlrf4rec.data.raw import RawLog, RawTable
from rlrf4rec.errors import DataError

META = "meta_"
META_ENDINGS = (".json", ".jsonl")
REVIEW_ENDINGS = (*META_ENDINGS, ".csv")


def load_amazon(data: DataConfig) -> RawLog:
    """Read the reviews and the items that the data section names.

    ``data.path`` is a folder that holds one review file and one ``meta_…`` file under the names
    they were published with; ``data.interactions`` and ``data.items`` name the files themselves.
    The catalogue is the log's items that the metadata describe.

    Raises:
        DataError: a file is missing, broken or of another vintage than the other; a broken line is
            named with its file and number.
    """
    reviews = data.interactions or _only_file(data.path, REVIEW_ENDINGS, meta=False)
    metadata = data.items or _only_file(data.path, META_ENDINGS, meta=True)
    vintage = VINTAGES[data.amazon.year or _year(reviews, metadata)]
    interactions = read_reviews(reviews, vintage)
    items, repeats = read_items(metadata, vintage, interactions.frame["item_id"])
    if not items.frame.height:
        raise _no_item(interactions, items)
    category = metadata.name.partition(".")[0].removeprefix(META).lower().replace("_", "-")
    return RawLog(
        name=f"amazon-{category}-{vintage.year}",
        interactions=interactions,
        items=items,
        dropped={"repeated metadata line (first kept)": repeats} if repeats else {},
    )


def _year(reviews: Path, metadata: Path) -> int:
    year, possible = year_of_metadata(metadata), possible_years(reviews)
    if year not in possible:
        raise DataError(
            "reviews and metadata of one vintage",
            found=f"{reviews} in the format of {_or(possible)}, {metadata} in that of {year}",
            remedy="Download both files of one year; or set data.amazon.year to 2014, 2018 or 2023 "
            "if a file's first lines are misleading.",
        )
    return year


def _only_file(folder: Path | None, endings: tuple[str, ...], *, meta: bool) -> Path:
    kind = "metadata file (meta_….json or .jsonl" if meta else "review file (….json, .jsonl or .csv"
    setting = "data.items" if meta else "data.interactions"
    if folder is None or not folder.is_dir():
        raise DataError(
            "a folder with Amazon review data",
            found=f"{folder} (not a folder)",
            remedy="Set data.path to the folder that holds the downloaded files.",
        )
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.name.lower().removesuffix(".gz").endswith(endings)
        and path.name.startswith(META) is meta
        and path.is_file()
    ]
    if len(found) != 1:
        seen = ", ".join(path.name for path in found or sorted(folder.iterdir())[:20])
        raise DataError(
            f"one {kind}, plain or .gz) in {folder}",
            found=f"{len(found)} of them: {seen or 'an empty folder'}",
            remedy=f"Put one there as it was downloaded, or set {setting} to its path.",
        )
    return found[0]


def _no_item(interactions: RawTable, items: RawTable) -> DataError:
    ids = interactions.frame["item_id"].drop_nulls().unique(maintain_order=True)
    shown = ", ".join(map(repr, ids.head(3))) or "none"
    return DataError(
        f"items of {interactions.path} in {items.path}",
        found=f"not one of {len(ids)} item ids in the log (first: {shown})",
        remedy="Take both files of one year and category; if these are users, set "
        "data.amazon.year to the year of the file.",
    )


def _or(years: set[int]) -> str:
    return " or ".join(str(year) for year in sorted(years))
