"""Step 2, before encoding: items that a text names are written in the catalogue's own words.

An LLM that names an item invents what it does not remember of it: years, genres, makers. A
recommender cannot know and believes it. So on the lines that name items, those of the catalogue
stand as the catalogue has them, and what it does not hold is left out (ours; entity linking by
title; docs/concepts/evidence.md, lab book, 27).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from rlrf4rec.prompts.items import line_items, shortened

_CUTS = re.compile(r"\s*([,;])\s*")
_TELLING_CHARACTERS = 6
"""Words of a shown title name it only if they have so many characters together."""

_MAX_PIECES = 4
"""A title may hold separators of its own: so many pieces between them are tried as one item."""


class ItemLinker:
    """Brings the items that texts name to the catalogue's own words.

    Args:
        titles: of the catalogue, ``[i]``.
        item_texts: what takes an item's place, ``[i]``.
        separators: what stands between the items of each line that names items, by the line's
            factor; other lines stay as they are.
        title_characters: the texts' author was shown titles up to so many characters (and so may
            shorten them further, see `link`); None: whole.
    """

    def __init__(
        self,
        titles: Sequence[str],
        item_texts: Sequence[str],
        separators: Mapping[str, str],
        title_characters: int | None = None,
    ) -> None:
        self._separators = dict(separators)
        self._item_texts = list(item_texts)
        self._shown = [_plain(shortened(title, title_characters)) for title in titles]
        self._shortens = title_characters is not None
        self._by_title: defaultdict[str, list[str]] = defaultdict(list)
        for title, shown, text in zip(titles, self._shown, item_texts, strict=True):
            for name in {_plain(title), shown}:
                self._by_title[name].append(text)

    def link(self, text: str, history: Collection[int] = ()) -> str:
        """The text with its items linked, each named once; a line that names none is left out.

        Args:
            text: what was written about a user.
            history: the items that its author was shown. Where titles were shown shortened, one of
                these is meant by its shown title, which others may share, and by most of its words.

        Example:
            With the catalogue ``Alien (1979; Horror)`` and the factor Favourites,
            ``"Favourites: Alien (1992; Comedy), Aliens IX\\nMood: dark"`` becomes
            ``"Favourites: Alien (1979; Horror)\\nMood: dark"``.
        """
        lines = []
        shown = {self._shown[item]: self._item_texts[item] for item in history if self._shortens}
        for line in text.split("\n"):
            name, colon, content = line.partition(":")
            separator = self._separators.get(name.strip()) if colon else None
            if separator is None:
                lines.append(line)
            elif found := dict.fromkeys(self._items(content, separator, shown)):
                lines.append(f"{name}: {f'{separator} '.join(found)}")
        return "\n".join(lines)

    def _items(self, content: str, separator: str, shown: Mapping[str, str]) -> Iterator[str]:
        pieces = line_items(content, separator)
        while pieces:
            for count in range(_most_pieces(pieces), 0, -1):
                found = self._find(f"{separator} ".join(pieces[:count]), shown)
                if found is not None:
                    break
            else:
                # Of what was not found only the first piece is given up, and only it is guessed at:
                # several together may be several items.
                found = self._most_alike(pieces[0].partition("(")[0], shown)
            if found is not None:
                yield found
            pieces = pieces[count:]

    def _find(self, said: str, shown: Mapping[str, str]) -> str | None:
        """The item that is meant: its title stands before what may be in brackets after it."""
        title = said
        while title:
            name = _plain(title)
            if name in shown:
                return shown[name]
            if meant := self._by_title.get(name):
                # Of several with the same title, the one whose details are most like those said.
                return max(meant, key=lambda text: len(_words(text) & _words(said)))
            title = title.rpartition("(")[0]
        return None

    @staticmethod
    def _most_alike(said: str, shown: Mapping[str, str]) -> str | None:
        """The item in whose title most words of what was said stand, the first of equals."""
        words = _words(said)
        shared = {title: words & _words(title) for title in shown}
        best = max(shared, key=lambda title: len(shared[title]), default=None)
        if best is None or 2 * len(shared[best]) <= len(words):
            return None
        telling = sum(map(len, shared[best])) >= _TELLING_CHARACTERS
        return shown[best] if telling else None


def _most_pieces(pieces: Sequence[str]) -> int:
    """How many of the first pieces may be one item: details in brackets end it."""
    for count, piece in enumerate(pieces[:_MAX_PIECES], start=1):
        if "(" in piece:
            return count
    return min(len(pieces), _MAX_PIECES)


def _plain(title: str) -> str:
    # A line's items are put together again with a space behind what they were cut at.
    return " ".join(_CUTS.sub(r"\1 ", title.casefold()).split())


def _words(text: str) -> set[str]:
    return {word.strip("();,") for word in text.casefold().split()}
