"""The items of a line, by hand."""

from __future__ import annotations

import pytest

from rlrf4rec.prompts.items import line_items


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
