"""The items of a line, by hand."""

from __future__ import annotations

import pytest

from rlrf4rec.prompts.items import first_repeat, line_items, shortened


@pytest.mark.parametrize(
    ("content", "items"),
    [
        ("Alien, Brazil", ["Alien", "Brazil"]),
        ("Alien (1979; Horror, Sci-Fi), Brazil", ["Alien (1979; Horror, Sci-Fi)", "Brazil"]),
        ("Alien (1979; Horror, Sci-Fi", ["Alien (1979; Horror, Sci-Fi"]),  # never closed
        ("Alien), Brazil", ["Alien)", "Brazil"]),  # never opened
        ("Alien,", ["Alien", ""]),
        ("", [""]),
    ],
)
def test_items_stand_between_commas_outside_brackets(content: str, items: list[str]) -> None:
    assert line_items(content) == items


def test_items_stand_between_semicolons_where_titles_hold_commas() -> None:
    content = "Gloves, 100 Count; Wire (5 m; red), black; "
    assert line_items(content, ";") == ["Gloves, 100 Count", "Wire (5 m; red), black", ""]


@pytest.mark.parametrize(
    ("title", "most", "shown"),
    [
        ("Drill Bit Set, 14 Piece", None, "Drill Bit Set, 14 Piece"),
        ("Drill Bit Set, 14 Piece", 23, "Drill Bit Set, 14 Piece"),  # all 23 characters
        ("Drill Bit Set, 14 Piece", 22, "Drill Bit Set, 14"),
        # No comma, bracket or dash is left hanging.
        ("Drill Bit Set, 14 Piece", 14, "Drill Bit Set"),
        ("Bulb - Bright (Pack of 6)", 15, "Bulb - Bright"),
        ("Bulb - Bright (Pack of 6)", 8, "Bulb"),
        ("Bulb - Bright (Pack of 6)", 22, "Bulb - Bright"),
        ("Bulb (60 W) - Bright (Pack of 6)", 20, "Bulb (60 W) - Bright"),
        ("  Drill\tBit ", 20, "Drill Bit"),
        ("Polytetrafluoroethylene Tape", 10, "Polytetraf"),
        (", , , , , , ,", 5, ", , ,"),
        ("", 5, ""),
    ],
)
def test_a_title_is_shortened_to_whole_words(title: str, most: int | None, shown: str) -> None:
    assert shortened(title, most) == shown


@pytest.mark.parametrize(
    ("items", "place"),
    [
        ([], None),
        (["Alien", "Brazil"], None),
        (["Alien", "Brazil", "ALIEN", "Brazil"], 2),
        (["Alien (1979)", "Alien"], None),
    ],
)
def test_first_repeat(items: list[str], place: int | None) -> None:
    assert first_repeat(items) == place
