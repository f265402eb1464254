"""The items of a line: ``Alien (1979; Horror, Sci-Fi), Brazil`` has two.

Items stand between commas that are not in brackets, since an item may bring its details along; or
between semicolons, where their names hold commas; or between either of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def line_items(content: str, separator: str = ",") -> list[str]:
    """The items of a line without its factor's name, stripped of spaces.

    Example:
        >>> line_items("Alien (1979; Horror, Sci-Fi), Brazil")
        ['Alien (1979; Horror, Sci-Fi)', 'Brazil']
    """
    begins = [0] + [place + 1 for place in separators(content, separator)]
    ends = [begin - 1 for begin in begins[1:]] + [len(content)]
    return [content[begin:end].strip() for begin, end in zip(begins, ends, strict=True)]


def first_repeat(items: Sequence[str]) -> int | None:
    """Place of the first item that stands before it, too, whatever its case; None: there is none.

    Example:
        >>> first_repeat(["war", "drama", "War"])
        2
    """
    known: set[str] = set()
    for place, item in enumerate(items):
        if item.lower() in known:
            return place
        known.add(item.lower())
    return None


def separators(content: str, separator: str = ",") -> Iterator[int]:
    """Places of the separators, any of these characters, that stand between items."""
    depth = 0
    for place, character in enumerate(content):
        if character == "(":
            depth += 1
        elif character == ")":
            depth = max(depth - 1, 0)
        elif character in separator and depth == 0:
            yield place


def shortened(title: str, most: int | None) -> str:
    """The first whole words of a title, at most so many characters; None: all of it.

    Example:
        >>> shortened("Titanium Drill Bit Set, 14 Piece", 25)
        'Titanium Drill Bit Set'
    """
    title = " ".join(title.split())
    if most is None or len(title) <= most:
        return title
    # A single word that is too long is cut where it has to be.
    words = title[: most + 1].rpartition(" ")[0] or title[:most]
    if words.count("(") > words.count(")"):
        # What stands behind a bracket that nobody closes is not told apart from it.
        words = words.rpartition("(")[0] or words
    return words.rstrip(" ,;:-/&(") or words
