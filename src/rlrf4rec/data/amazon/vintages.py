"""The names of the fields in the three published vintages of Amazon review data.

- 2014: J. McAuley, C. Targett, Q. Shi and A. van den Hengel, *Image-based Recommendations on Styles
  and Substitutes*, SIGIR 2015; https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html
- 2018: J. Ni, J. Li and J. McAuley, *Justifying Recommendations using Distantly-Labeled Reviews and
  Fine-Grained Aspects*, EMNLP 2019; https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/
- 2023: Y. Hou et al., *Bridging Language and Items for Retrieval and Recommendation*, arXiv
  2403.03952; https://amazon-reviews-2023.github.io/
"""

from __future__ import annotations

import ast
import json
import warnings
from dataclasses import dataclass

Record = dict[str, object]


@dataclass(frozen=True)
class Vintage:
    """Where a vintage keeps what we read.

    Attributes:
        year: 2014, 2018 or 2023.
        user, item, rating, time: keys of a review. 2023 gives milliseconds, the others seconds;
            only the order is used.
        ratings_only: our names of the fields of a ratings-only CSV, in its order.
        maker: key of an item's brand, author or shop.
        categories: key of an item's category path, or list of paths.
    """

    year: int
    user: str
    item: str
    rating: str
    time: str
    ratings_only: tuple[str, ...]
    maker: str
    categories: str


USER_FIRST = ("user_id", "item_id", "rating", "timestamp")
ITEM_FIRST = ("item_id", "user_id", "rating", "timestamp")
# The ratings-only files of 2023; the older ones have no header, nor had the first ones of 2023.
HEADER_2023 = b"user_id,parent_asin,rating,timestamp"

_REVIEW_2014 = ("reviewerID", "asin", "overall", "unixReviewTime")
_REVIEW_2023 = ("user_id", "parent_asin", "rating", "timestamp")

VINTAGES = {
    2014: Vintage(2014, *_REVIEW_2014, USER_FIRST, maker="brand", categories="categories"),
    2018: Vintage(2018, *_REVIEW_2014, ITEM_FIRST, maker="brand", categories="category"),
    2023: Vintage(2023, *_REVIEW_2023, USER_FIRST, maker="store", categories="categories"),
}


def parse_record(line: bytes) -> Record:
    """A line's object, written in JSON or, as the metadata of 2014, as a Python dict literal.

    Literals are evaluated by `ast.literal_eval`, which runs no code.

    Raises:
        ValueError: the line is neither, or not UTF-8; the message says why.
    """
    text = line.decode("utf-8")  # UnicodeDecodeError is a ValueError
    try:
        record = _literal(text) if text.startswith("{'") else json.loads(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if not isinstance(record, dict):
        raise ValueError(f"a {type(record).__name__}, not an object")
    return record


def _literal(text: str) -> object:
    with warnings.catch_warnings():
        # Descriptions hold backslashes that Python takes for doubtful escapes.
        warnings.simplefilter("ignore")
        value: object = ast.literal_eval(text)
    return value
