"""Amazon review data: the three vintages in their published formats, and files that are not."""

from __future__ import annotations

import gzip
import json
from functools import partial
from pathlib import Path

import pytest
from amazon_samples import (
    ANNA,
    BEN,
    FULL,
    HOBBIT,
    PLAIN,
    RATINGS_ONLY,
    ROWS,
    SOAP,
    metadata,
    put,
    ratings_only,
    reviews,
    write_sample,
)

from rlrf4rec.config import parse_config
from rlrf4rec.data import load_dataset
from rlrf4rec.data.amazon import metadata as amazon_metadata
from rlrf4rec.data.amazon import reviews as amazon_reviews
from rlrf4rec.data.amazon.metadata import item_details, item_title
from rlrf4rec.data.amazon.vintages import VINTAGES
from rlrf4rec.data.lines import read_blocks
from rlrf4rec.errors import ConfigError, DataError
from rlrf4rec.records import Dataset

SMALL_LISTS = {"chunk_size": 1, "min_history": 1}
PUBLISHED = [*FULL, *RATINGS_ONLY]
PLAIN_NAMES = [
    (year, review_file.removesuffix(".gz"), meta_file.removesuffix(".gz"))
    for year, review_file, meta_file in PUBLISHED
]


def load(folder: Path, **data: object) -> Dataset:
    settings = {"source": "amazon", "path": str(folder), **data}
    return load_dataset(parse_config({"data": settings, "lists": SMALL_LISTS}))


@pytest.mark.parametrize(("year", "review_file", "meta_file"), [*PUBLISHED, *PLAIN_NAMES])
def test_every_published_format(
    tmp_path: Path, year: int, review_file: str, meta_file: str
) -> None:
    """Items sort by id: 0007149239, B00001P4ZH, B00005N7PS; users: A2…, AO….

    Anna by time: Hobbit (1252800000), Plain (1389657600), Soap (1400000000); Ben: Hobbit, Plain.
    """
    write_sample(tmp_path, year, review_file, meta_file)
    data = load(tmp_path)
    assert data.name == f"amazon-books-{year}"
    assert data.users["user_id"].to_list() == [ANNA, BEN]
    assert data.items["item_id"].to_list() == [HOBBIT, PLAIN, SOAP]
    assert data.interactions.rows() == [
        (0, 0, 5.0, 0),
        (0, 1, 1.0, 1),
        (0, 2, 4.0, 2),
        (1, 0, 5.0, 0),
        (1, 1, 2.0, 1),
    ]
    assert data.items["title"].to_list() == [
        "The Hobbit: It's There & Back",
        f"item {PLAIN}",
        "Soap Bar",
    ]
    assert (
        data.items["details"].to_list()
        == {
            2014: ["Fantasy, Epic", "", "Yes To"],
            2018: ["J. R. R. Tolkien; Fantasy, Epic", "", "Yes To"],
            2023: ["J. R. R. Tolkien (Author); Fantasy, Epic", "", "Yes To"],
        }[year]
    )
    assert data.dropped == {"item without a title (kept)": 1}


def test_loose_json_of_2014(tmp_path: Path) -> None:
    """The reviews of 2014 were announced as "loose JSON": Python literals are taken as well."""
    write_sample(tmp_path, *FULL[0])
    expected = load(tmp_path)
    records = [json.loads(line) for line in reviews(2014).splitlines()]
    put(tmp_path / FULL[0][1], "".join(f"{record!r}\n" for record in records))
    assert load(tmp_path).interactions.equals(expected.interactions)


def test_first_ratings_of_2023_had_no_header(tmp_path: Path) -> None:
    write_sample(tmp_path, *RATINGS_ONLY[2])
    expected = load(tmp_path)
    put(tmp_path / "Books.csv.gz", ratings_only(2023).partition("\n")[2])
    data = load(tmp_path)
    assert data.name == "amazon-books-2023"
    assert data.interactions.equals(expected.interactions)


def test_blank_lines_and_windows_line_ends(tmp_path: Path) -> None:
    write_sample(tmp_path, 2018, "Books.csv", "meta_Books.json")
    expected = load(tmp_path)
    put(tmp_path / "Books.csv", "\n" + ratings_only(2018).replace("\n", "\r\n\r\n"))
    put(tmp_path / "meta_Books.json", "\ufeff" + metadata(2018).replace("\n", "\n\n").rstrip())
    assert load(tmp_path).interactions.equals(expected.interactions)


@pytest.mark.parametrize(("year", "review_file", "meta_file"), PUBLISHED)
def test_small_blocks_change_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    year: int,
    review_file: str,
    meta_file: str,
) -> None:
    write_sample(tmp_path, year, review_file, meta_file)
    expected = load(tmp_path)
    small = partial(read_blocks, block_bytes=40)
    monkeypatch.setattr(amazon_reviews, "read_blocks", small)
    monkeypatch.setattr(amazon_metadata, "read_blocks", small)
    data = load(tmp_path)
    assert data.interactions.equals(expected.interactions)
    assert data.items.equals(expected.items)


def test_default_of_positive_rating() -> None:
    def default(**data: object) -> float:
        return parse_config({"data": data}).data.positive_rating

    assert default() == 4
    assert default(source="amazon", path="x") == 5
    assert default(source="amazon", path="x", positive_rating=3) == 3


def test_missing_values_are_counted(tmp_path: Path) -> None:
    """An absent rating, a null time, and an item that the metadata do not know."""
    write_sample(tmp_path, *FULL[1])
    more = [
        {"reviewerID": ANNA, "asin": SOAP, "unixReviewTime": 1},
        {"reviewerID": ANNA, "asin": SOAP, "overall": 5.0, "unixReviewTime": None},
        {"reviewerID": ANNA, "asin": "B000000000", "overall": 5.0, "unixReviewTime": 1},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in more)
    put(tmp_path / FULL[1][1], reviews(2018) + lines)
    data = load(tmp_path)
    assert data.interactions.height == len(ROWS)
    assert data.dropped == {
        "item without a title (kept)": 1,
        "missing rating": 1,
        "missing timestamp": 1,
        "item not in catalogue": 1,
    }


def test_the_same_review_or_item_twice(tmp_path: Path) -> None:
    write_sample(tmp_path, *FULL[1])
    put(tmp_path / FULL[1][1], reviews(2018) + reviews(2018).splitlines()[0])
    again = json.dumps({"asin": SOAP, "title": "Another soap", "category": []})
    put(tmp_path / FULL[1][2], metadata(2018) + again)
    data = load(tmp_path)
    assert data.items["title"].to_list()[2] == "Soap Bar"
    assert data.dropped["duplicate row"] == 1
    assert data.dropped["repeated metadata line (first kept)"] == 1


def test_an_id_quoted_in_a_description_is_no_item(tmp_path: Path) -> None:
    write_sample(tmp_path, *FULL[0])
    quoting = {"asin": "B999999999", "description": f"see {{'asin': '{SOAP}'}}", "title": "x"}
    put(tmp_path / FULL[0][2], f"{quoting!r}\n" + metadata(2014))
    assert load(tmp_path).items["title"].to_list()[2] == "Soap Bar"


@pytest.mark.parametrize(
    ("year", "review_file", "line", "why"),
    [
        (2014, "reviews_Books_5.json.gz", '{"reviewerID": "A2", "asin"', "delimiter"),
        (2018, "Books_5.json", '{"reviewerID": "A2"}{"reviewerID": "A3"}', "Extra data"),
        (2018, "Books_5.json", '{"reviewerID": "A2", "overall": "five"}', "'overall' is 'five'"),
        (2023, "Books.jsonl", '{"user_id": "A2", "timestamp": 1.5}', "'timestamp' is 1.5"),
        (2023, "Books.jsonl", "[1, 2]", "a list, not an object"),
        (2014, "ratings_Books.csv", f"{ANNA},{HOBBIT},5.0", "3 fields"),
        (2018, "Books.csv", f"{HOBBIT},{ANNA},5.0,1,1", "5 fields"),
        (2018, "Books.csv.gz", f"{HOBBIT},{ANNA},five,1", "rating 'five'"),
        (2023, "Books.csv", f"{ANNA},{HOBBIT},5.0,2014-01-01", "timestamp '2014-01-01'"),
    ],
)
@pytest.mark.parametrize("after", [2, 5])
def test_broken_review(
    tmp_path: Path, year: int, review_file: str, line: str, why: str, after: int
) -> None:
    """The message names the file, the line and what is wrong, wherever the line stands."""
    meta_file = "meta_Books.jsonl" if year == 2023 else "meta_Books.json"
    write_sample(tmp_path, year, review_file, meta_file)
    whole = (ratings_only if ".csv" in review_file else reviews)(year).splitlines()
    header = whole[0].startswith("user_id")
    whole.insert(after + header, line)
    put(tmp_path / review_file, "\n".join(whole) + "\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert f"{review_file}, line {after + header + 1}: " in caught.value.found
    assert why in caught.value.found


@pytest.mark.parametrize(
    ("year", "line"),
    [
        (2014, "{'asin': '0007149239', 'title': open('/etc/passwd')}"),
        (2014, "{'asin': '0007149239', 'title': 'cut"),
        (2018, '{"title": "cut he'),
        (2023, "null"),
    ],
)
def test_broken_metadata(tmp_path: Path, year: int, line: str) -> None:
    """A literal that is more than a literal is refused, not run."""
    _, review_file, meta_file = next(row for row in FULL if row[0] == year)
    write_sample(tmp_path, year, review_file, meta_file)
    put(tmp_path / meta_file, metadata(year) + line + "\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert f"{meta_file}, line 5: " in caught.value.found


def test_not_utf8(tmp_path: Path) -> None:
    write_sample(tmp_path, 2018, "Books_5.json", "meta_Books.json")
    broken = reviews(2018).encode().replace(b"Good", b"Go\xffd", 1)
    (tmp_path / "Books_5.json").write_bytes(broken)
    with pytest.raises(DataError, match="line 1: 'utf-8' codec"):
        load(tmp_path)


def test_cut_download(tmp_path: Path) -> None:
    write_sample(tmp_path, *FULL[1])
    packed = gzip.compress(reviews(2018).encode() * 50)
    (tmp_path / FULL[1][1]).write_bytes(packed[:-20])
    with pytest.raises(DataError, match="Download the file again"):
        load(tmp_path)


@pytest.mark.parametrize(("reviews_of", "items_of"), [(2014, 2018), (2018, 2014), (2018, 2023)])
def test_two_vintages_in_one_folder(tmp_path: Path, reviews_of: int, items_of: int) -> None:
    put(tmp_path / "Books.csv", ratings_only(reviews_of))
    put(tmp_path / "meta_Books.json", metadata(items_of))
    with pytest.raises(DataError, match=f"in that of {items_of}"):
        load(tmp_path)


def test_year_decides_where_ids_do_not(tmp_path: Path) -> None:
    """Item ids of other lengths give no hint: the metadata's year, or the setting, decides."""
    rows = ["Anna,1,5,1", "Anna,2,5,2", "Anna,3,5,3"]
    put(tmp_path / "Books.csv", "\n".join(rows))
    items = [{"asin": str(n), "title": f"T{n}", "category": []} for n in (1, 2, 3)]
    put(tmp_path / "meta_Books.json", "\n".join(map(json.dumps, items)))
    with pytest.raises(DataError, match=r"not one of 1 item ids in the log .first: 'Anna'"):
        load(tmp_path)
    data = load(tmp_path, amazon={"year": 2014})
    assert data.users["user_id"].to_list() == ["Anna"]
    assert data.name == "amazon-books-2014"


def test_files_missing_or_too_many(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="an empty folder"):
        load(tmp_path)
    write_sample(tmp_path, *FULL[1])
    put(tmp_path / "Books.csv", ratings_only(2018))
    with pytest.raises(DataError, match=r"2 of them: Books\.csv, Books_5\.json\.gz"):
        load(tmp_path)
    assert load(tmp_path, interactions=str(tmp_path / "Books.csv")).n_users == 2
    (tmp_path / FULL[1][2]).unlink()
    with pytest.raises(DataError, match="one metadata file"):
        load(tmp_path, interactions=str(tmp_path / "Books.csv"))
    with pytest.raises(ConfigError, match="source 'amazon' needs 'path'"):
        parse_config({"data": {"source": "amazon"}})


def test_strange_or_empty_files(tmp_path: Path) -> None:
    write_sample(tmp_path, 2023, "Books.csv", "meta_Books.jsonl")
    put(tmp_path / "Books.csv", "user_id,parent_asin,rating,timestamp\n")
    with pytest.raises(DataError, match=r"not one of 0 item ids in the log .first: none"):
        load(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    write_sample(tmp_path, 2018, "Books_5.json", "meta_Books.json")
    put(tmp_path / "Books_5.json", '{"user": "x", "item": "y"}\n')
    with pytest.raises(DataError, match="with 'user', 'item'"):
        load(tmp_path)
    put(tmp_path / "Books_5.json", "")
    with pytest.raises(DataError, match="an empty file"):
        load(tmp_path)
    put(tmp_path / "meta_Books.json", '{"title": "x"}\n')
    with pytest.raises(DataError, match=r"meta_Books\.json, line 1, with 'title'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("Tom &amp; Jerry &lt;3", "Tom & Jerry <3"),
        ("<b>Bold</b> <i class='x'>book</i>", "Bold book"),
        ("<script>var a = 1;</script>Title<style>p {}", "Title"),
        ("5 < 6 and 7 > 2", "5 < 6 and 7 > 2"),
        ("  a\n\tb  ", "a b"),
        ("x" * 149 + " yz", "x" * 149),
        ("x" * 300, "x" * 150),
        (None, ""),
        (7, ""),
        ("var aPageStart = (new Date()).getTime();", ""),
    ],
)
def test_title(raw: object, plain: str) -> None:
    assert item_title({"title": raw}) == plain


def test_details() -> None:
    record = {"brand": "Visit Amazon's <b>Ann</b> &amp; Co Page", "category": ["Root", "", "A"]}
    assert item_details(record, VINTAGES[2018]) == "Ann & Co; A"
    assert item_details({"brand": None, "category": "Root"}, VINTAGES[2018]) == ""
    long = item_details({"brand": "b" * 500, "category": ["r", *["c" * 500] * 5]}, VINTAGES[2018])
    assert len(long) == 60 + len("; ") + 60 + len(", ") + 60
