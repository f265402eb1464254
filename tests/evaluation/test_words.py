import pytest

from rlrf4rec.evaluation.results import MEAN, SYSTEMS, WITH_HISTORY, ComparisonRow
from rlrf4rec.evaluation.words import (
    GROUPS,
    duration,
    number,
    p_value,
    system_group,
    system_label,
    system_meaning,
    verdict,
    visible,
)


def test_every_system_has_words():
    tuned = "tuned_round_3"
    for system in (*SYSTEMS, tuned, tuned + MEAN, tuned + WITH_HISTORY):
        assert system_label(system) != system
        assert system_meaning(system)
        assert system_group(system) in GROUPS


@pytest.mark.parametrize(
    ("ci95", "expected"),
    [
        ((0.001, 0.007), "higher"),
        ((-0.007, -0.001), "lower"),
        ((-0.001, 0.007), "no clear difference"),
        ((0.0, 0.0), "no clear difference"),
        (None, "too few users to tell"),
    ],
)
def test_verdicts(ci95, expected):
    row = ComparisonRow(
        a="x", b="y", backbone=None, metric="mrr", diff=0.003, ci95=ci95, p=None,
        n_users=1, n_lists=1, kind="popular",
    )  # fmt: skip
    assert verdict(row) == expected


def test_numbers():
    assert number(-0.0004) == "0.000"
    assert number(-0.5, 1) == "\u22120.5"
    assert number(0.0, sign=True) == "+0.000"
    assert p_value(0.0001) == "< 0.001"
    assert p_value(None) == "n/a"


def test_durations():
    assert duration(59.96) == "1 min 0 s"
    assert duration(3599.7) == "1 h 0 min"


def test_harmless_text_is_left_alone():
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # an emoji made with zero-width joiners
    text = f"Amélie\n七人の侍\t{family} שלום"
    assert visible(text) == text


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x7f", "\u202e", "\u2066", "\u2028", "\ud800"])
def test_control_characters_are_written_out(char):
    assert visible(f"a{char}b") == f"a[U+{ord(char):04X}]b"
