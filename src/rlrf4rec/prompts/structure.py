"""Structure alignment's check: does an answer have the form that the prompt asks for?

Checked: share of factors covered, repetition, length, language that fits. A malformed answer may be
rejected in a preference pair, never chosen.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from rlrf4rec.config import MAX_REPETITION
from rlrf4rec.prompts.items import first_repeat, line_items
from rlrf4rec.prompts.templates import LineForm, Template

MAX_LINE_CHARACTERS = 240
MIN_LATIN_SHARE = 0.9


@dataclass(frozen=True)
class StructureReport:
    """What the check found.

    Attributes:
        coverage: share of factors that have a line with content.
        repetition: share of words said before in the answer (0: none).
        ok: well-formed: every factor once, in order, on a short line, nothing else, little
            repetition, no item twice on a line that is a list of items, and the language's script.
        reason: the first thing wrong, empty when ``ok``.
    """

    coverage: float
    repetition: float
    ok: bool
    reason: str


def check_structure(answer: str, template: Template, *, finished: bool = True) -> StructureReport:
    """Check a whole answer, first words included.

    Args:
        answer: what the LLM wrote.
        template: names the factors.
        finished: False when the token limit cut the answer.

    Example:
        With factors Genres and Mood, ``"Genres: drama\\nMood: dark"`` is well-formed;
        ``"Genres: drama, drama, drama, drama"`` covers half and repeats 3 of 5 words.
    """
    lines = [line.strip() for line in answer.strip().split("\n") if line.strip()]
    names = [_factor_of(line, template.factors) for line in lines]
    coverage = len({name for name in names if name}) / len(template.factors)
    words = _words(answer.lower())
    repetition = 1 - len(set(words)) / len(words) if words else 0.0
    if coverage < 1:
        reason = "a factor is missing"
    elif names != template.factors:
        reason = "lines beyond one for each factor, in order"
    elif any(map(_is_long, lines, template.line_forms)):
        reason = "a line is too long"
    elif repetition > MAX_REPETITION:
        reason = "words are repeated"
    elif any(map(_repeats_item, lines, template.line_forms)):
        reason = "an item is repeated"
    elif _is_in_another_script(lines, template):
        reason = "another script than the prompt's"
    elif not finished:
        reason = "cut at the token limit"
    else:
        reason = ""
    return StructureReport(coverage, repetition, not reason, reason)


def _words(text: str) -> list[str]:
    """Words without underscores; a vowel sign, which is no letter, is part of one."""
    return "".join(
        one if one.isalnum() or unicodedata.category(one)[0] == "M" else " " for one in text
    ).split()


def _own_words(lines: list[str], template: Template) -> str:
    """What the LLM says in its own words: names of items are written as the catalogue has them."""
    forms = zip(lines, template.line_forms, strict=True)
    return "\n".join(line for line, form in forms if not form.names_items)


def _latin_share(text: str) -> float | None:
    """Of its letters; None without any."""
    letters = [character for character in text if character.isalpha()]
    return sum(character < "\u0250" for character in letters) / len(letters) if letters else None


def _is_in_another_script(lines: list[str], template: Template) -> bool:
    """Whether a template in Latin letters is answered in others."""
    asked, own = _latin_share(template.question), _latin_share(_own_words(lines, template))
    if asked is None or own is None:
        return False
    return own < MIN_LATIN_SHARE <= asked


def _items_of(line: str, form: LineForm) -> list[str]:
    return line_items(line.partition(":")[2], form.separator)


def _is_long(line: str, form: LineForm) -> bool:
    # A list is as long as its items are many, which are counted; each of them is short.
    parts = [line] if form.max_items is None else _items_of(line, form)
    return max(map(len, parts)) > MAX_LINE_CHARACTERS


def _repeats_item(line: str, form: LineForm) -> bool:
    return form.max_items is not None and first_repeat(_items_of(line, form)) is not None


def _factor_of(line: str, factors: list[str]) -> str:
    """The factor that a line is about, if it says something; otherwise an empty string."""
    name, colon, content = line.partition(":")
    return name if colon and name in factors and any(map(str.isalnum, content)) else ""
