"""The items of a line, by hand."""

from __future__ import annotations

import pytest

from rlrf4rec.prompts.items import first_repeat, line_items


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
