"""Step 2, before encoding: items that a text names are written in the catalogue's own words.

An LLM that names an item invents what it does not remember of it: years, genres, makers. A
recommender cannot know and believes it. So on the lines that name items, those of the catalogue
stand as the catalogue has them, and what it does not hold is left out (ours; entity linking by
title; docs/concepts/evidence.md, lab book, 27).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from rlrf4rec.prompts.items import line_items

_MAX_PIECES = 4
"""A title may hold commas of its own: so many pieces between commas are tried as one item."""


class ItemLinker:
    """Brings the items that texts name to the catalogue's own words.

    Args:
        titles: of the catalogue, ``[i]``.
        item_texts: what takes an item's place, ``[i]``.
        factors: names of the lines that name items; other lines stay as they are.
    """

    def __init__(
        self, titles: Sequence[str], item_texts: Sequence[str], factors: Collection[str]
    ) -> None:
        self._factors = frozenset(factors)
        self._by_title: defaultdict[str, list[str]] = defaultdict(list)
        for title, text in zip(titles, item_texts, strict=True):
            self._by_title[_plain(title)].append(text)

    def link(self, text: str) -> str:
        """The text with its items linked, each named once; a line that names none is left out.

        Example:
            With the catalogue ``Alien (1979; Horror)`` and the factor Favourites,
            ``"Favourites: Alien (1992; Comedy), Aliens IX\\nMood: dark"`` becomes
            ``"Favourites: Alien (1979; Horror)\\nMood: dark"``.
        """
        lines = []
        for line in text.split("\n"):
            name, colon, content = line.partition(":")
            if not colon or name.strip() not in self._factors:
                lines.append(line)
            elif found := dict.fromkeys(self._items(content)):
                lines.append(f"{name}: {', '.join(found)}")
        return "\n".join(lines)

    def _items(self, content: str) -> Iterator[str]:
        pieces = line_items(content)
        while pieces:
            for count in range(_most_pieces(pieces), 0, -1):
                found = self._find(", ".join(pieces[:count]))
                if found is not None:
                    yield found
                    break
            # Of what was not found only the first piece is given up.
            pieces = pieces[count:]

    def _find(self, said: str) -> str | None:
        """The item that is meant: its title stands before what may be in brackets after it."""
        title = said
        while title:
            meant = self._by_title.get(_plain(title))
            if meant:
                # Of several with the same title, the one whose details are most like those said.
                return max(meant, key=lambda text: len(_words(text) & _words(said)))
            title = title.rpartition("(")[0]
        return None


def _most_pieces(pieces: Sequence[str]) -> int:
    """How many of the first pieces may be one item: details in brackets end it."""
    for count, piece in enumerate(pieces[:_MAX_PIECES], start=1):
        if "(" in piece:
            return count
    return min(len(pieces), _MAX_PIECES)


def _plain(title: str) -> str:
    return " ".join(title.casefold().split())


def _words(text: str) -> set[str]:
    return {word.strip("();,") for word in text.casefold().split()}
