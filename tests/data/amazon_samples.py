"""Amazon review data in miniature: every published format, written field by field."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

# (user, item, rating, seconds): not in the order of time, and one review twice.
ANNA, BEN = "A2SUAM1J3GNN3B", "AO94DHGC771SJ"
HOBBIT, SOAP, PLAIN = "0007149239", "B00005N7PS", "B00001P4ZH"
ROWS = [
    (ANNA, SOAP, 4.0, 1400000000),
    (BEN, HOBBIT, 5.0, 1300000000),
    (ANNA, HOBBIT, 5.0, 1252800000),
    (BEN, PLAIN, 2.0, 1350000000),
    (ANNA, PLAIN, 1.0, 1389657600),
]

META_2014 = [
    {
        "asin": HOBBIT,
        "title": "The Hobbit: It's There &amp; Back",
        "price": 5.98,
        "related": {"also_bought": [SOAP]},
        "salesRank": {"Books": 326205},
        "categories": [["Books", "Fantasy", "Epic"], ["Books", "Children"]],
    },
    {"asin": SOAP, "brand": "Yes To", "title": "Soap\n Bar", "categories": [["Beauty"]]},
    {"asin": PLAIN, "categories": [["Books"]]},
    {"asin": "0000000000", "title": "Nobody read this", "categories": [["Books"]]},
]
META_2018 = [
    {
        "category": ["Books", "Literature &amp; Fiction", "Fantasy", "Epic"],
        "tech1": "",
        "title": "<span class='a-size'>The Hobbit: It's There &amp; Back</span>",
        "brand": "Visit Amazon's J. R. R. Tolkien Page",
        "details": {"ASIN:": HOBBIT},
        "main_cat": '<img src="https://images/logo.png" alt="Books"/>',
        "asin": HOBBIT,
    },
    {"category": [], "title": "Soap\n Bar", "brand": "Yes To", "asin": SOAP},
    {
        "category": ["Books"],
        "title": "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();",
        "brand": "",
        "asin": PLAIN,
    },
    {"category": ["Books"], "title": "Nobody read this", "brand": "", "asin": "0000000000"},
]
META_2023 = [
    {
        "main_category": "Books",
        "title": "The Hobbit: It's There &amp; Back",
        "average_rating": 4.8,
        "store": "J. R. R. Tolkien (Author)",
        "categories": ["Books", "Literature & Fiction", "Fantasy", "Epic"],
        "details": {"Publisher": "HarperCollins", "Language": "English"},
        "parent_asin": HOBBIT,
        "bought_together": None,
    },
    {"title": "Soap Bar", "store": "Yes To", "categories": [], "parent_asin": SOAP},
    {"title": None, "store": None, "categories": ["Books"], "parent_asin": PLAIN},
    {"title": "Nobody read this", "store": None, "categories": [], "parent_asin": "0000000000"},
]


def put(path: Path, text: str) -> Path:
    """Write a file; gzipped where its name ends in .gz."""
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def reviews(year: int) -> str:
    """The rows as one JSON object a line, with fields that the loader must pass over."""
    if year == 2023:
        records = [
            {
                "rating": rating,
                "title": "Five stars",
                "text": 'He said "go", then left\nat once.',
                "images": [],
                "asin": "B0VARIANT1",
                "parent_asin": item,
                "user_id": user,
                "timestamp": 1000 * seconds,
                "helpful_vote": 0,
                "verified_purchase": True,
            }
            for user, item, rating, seconds in ROWS
        ]
    else:
        records = [
            {
                "reviewerID": user,
                "asin": item,
                "reviewerName": 'Abby "Doc"',
                "helpful": [2, 3],
                "reviewText": "It's a book, {really}.",
                "overall": rating,
                "summary": "Good",
                "unixReviewTime": seconds,
                "reviewTime": "09 13, 2009",
            }
            for user, item, rating, seconds in ROWS
        ]
    return "".join(json.dumps(record) + "\n" for record in records)


def ratings_only(year: int) -> str:
    """The rows as a CSV: the order of the columns, the header and the unit of time differ."""
    if year == 2018:
        return "".join(f"{item},{user},{rating},{time}\n" for user, item, rating, time in ROWS)
    if year == 2014:
        return "".join(f"{user},{item},{rating},{time}\n" for user, item, rating, time in ROWS)
    lines = [f"{user},{item},{rating},{1000 * time}\n" for user, item, rating, time in ROWS]
    return "user_id,parent_asin,rating,timestamp\n" + "".join(lines)


def metadata(year: int) -> str:
    """The items: Python dict literals in 2014, JSON since."""
    if year == 2014:
        return "".join(f"{item!r}\n" for item in META_2014)
    items = META_2018 if year == 2018 else META_2023
    return "".join(json.dumps(item) + "\n" for item in items)


# As published: (year, review file, metadata file).
FULL = [
    (2014, "reviews_Books_5.json.gz", "meta_Books.json.gz"),
    (2018, "Books_5.json.gz", "meta_Books.json.gz"),
    (2023, "Books.jsonl.gz", "meta_Books.jsonl.gz"),
]
RATINGS_ONLY = [
    (2014, "ratings_Books.csv", "meta_Books.json.gz"),
    (2018, "Books.csv", "meta_Books.json.gz"),
    (2023, "Books.csv.gz", "meta_Books.jsonl.gz"),
]


def write_sample(folder: Path, year: int, review_file: str, meta_file: str) -> None:
    """A data set's folder as downloaded; names without .gz are written plain."""
    csv = ".csv" in review_file
    put(folder / review_file, ratings_only(year) if csv else reviews(year))
    put(folder / meta_file, metadata(year))
