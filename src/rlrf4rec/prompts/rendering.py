"""From a reading history to a prompt.

Titles, attributes and profiles are data, not instructions: control characters, line breaks and the
chat template's own marks are taken out of them before they reach the LLM.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import TemplateError

from rlrf4rec.config import Order
from rlrf4rec.errors import ConfigError
from rlrf4rec.prompts.items import shortened
from rlrf4rec.prompts.structure import MAX_LINE_CHARACTERS
from rlrf4rec.prompts.templates import Example, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_FIELD_CHARACTERS = 120
_NOTHING = "(none)"
_DAY = date(2024, 7, 26)
# Marks of the chat templates in use; a tokenizer's own special tokens come on top.
_MARKS = re.compile(r"<\|.*?\|>|<<?/?(?:SYS|sys)>?>|\[/?INST\]|</?s>|<(?:start|end)_of_turn>")


@dataclass(frozen=True)
class HistoryItem:
    """One interaction as the prompt shows it; ``rating`` is None in logs without ratings."""

    title: str
    details: str
    rating: float | None


def shown_items(history: Sequence[HistoryItem], history_size: int) -> list[HistoryItem]:
    """What a prompt shows of a reading history, both oldest first: its last ``history_size``.

    An item that comes again is shown once, at its latest place: an LLM would name it twice, and a
    line ends before it repeats itself.
    """
    latest: dict[tuple[str, str], HistoryItem] = {}
    for item in reversed(history[-history_size:]):
        latest.setdefault((item.title, item.details), item)
    return list(latest.values())[::-1]


class PromptWriter:
    """Writes the prompts of one run.

    Args:
        template: the domain's template.
        tokenizer: the LLM's tokenizer; counts tokens and lays out the chat.
        history_size: the last interactions to show.
        max_tokens: budget of the whole prompt; the oldest interactions are left out to keep it, and
            a title that fits by itself no more is cut.
        positive_rating: a rating at or above it counts as liked.
    """

    def __init__(
        self,
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        *,
        history_size: int,
        max_tokens: int,
        positive_rating: float,
    ) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self._history_size = history_size
        self._max_tokens = max_tokens
        self._positive_rating = positive_rating
        # Added tokens need not be special to be read as one: role marks of some chat templates.
        marks = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
        self._special = sorted((mark for mark in marks if mark.strip()), key=len, reverse=True)
        self._begin = str(tokenizer.bos_token) if _adds_bos(tokenizer) else ""
        self._system_role = bool(tokenizer.chat_template) and _takes_system(tokenizer)

    def write(
        self,
        history: Sequence[HistoryItem],
        profile: str = "",
        *,
        order: Order = "oldest_first",
        seed: int = 0,
    ) -> str:
        """The prompt of one user, chat template applied and the answer's first words given.

        Args:
            history: reading history, oldest first; `shown_items` of it are shown.
            profile: one line, may be empty.
            order: of the interactions shown.
            seed: of order ``shuffled``.

        Raises:
            ConfigError: the prompt without any history is already over the budget.
        """
        shown = shown_items(history, self._history_size)
        # The oldest lines give way to the budget in any order; a place stays with its line.
        places = _places(len(shown), order, seed)

        def newest(n: int) -> list[HistoryItem]:
            return [shown[place] for place in places if place >= len(shown) - n]

        kept = self._most(len(shown), lambda n: self._render(newest(n), profile))
        if kept:
            return self._render(newest(kept), profile)

        def cut(n: int) -> str:
            """The newest interaction alone, with the beginning of a title that is too long."""
            item = replace(shown[-1], title=shown[-1].title[:n], details="")
            return self._render([item], profile)

        characters = self._most(MAX_FIELD_CHARACTERS, cut) if shown else 0
        if not characters:
            raise ConfigError(
                f"room for a history in prompt.max_tokens={self._max_tokens}",
                found=f"{self._tokens(self._render([], profile))} tokens without any of it",
                remedy="Raise prompt.max_tokens or shorten the template's examples.",
            )
        return cut(characters)

    def _most(self, most: int, prompt: Callable[[int], str]) -> int:
        """The largest ``n`` up to ``most`` whose prompt fits, by bisection; 0 where none does."""
        fits, too_many = 0, most + 1
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self._tokens(prompt(middle)) <= self._max_tokens:
                fits = middle
            else:
                too_many = middle
        return fits

    def write_ranking(self, text: str) -> str:
        """The prompt that asks for a title, with the answer's first words given.

        Args:
            text: what the LLM wrote about the user; empty: the same question without it.
        """
        ranking = self._template.ranking
        # A sampled text is no instruction either: it may spell out the chat template's marks.
        lines = [self.clean(line, MAX_LINE_CHARACTERS) for line in text.split("\n")]
        question = ranking.question.format(text="\n".join(line for line in lines if line))
        messages = [
            {"role": "system", "content": ranking.system},
            {"role": "user", "content": question.strip()},
        ]
        return self._chat(messages) + ranking.first_words

    def clean(self, text: str, limit: int = MAX_FIELD_CHARACTERS) -> str:
        """One line of harmless text: no control characters, no chat marks, bounded length."""
        for token in self._special:
            text = text.replace(token, " ")
        text = _MARKS.sub(" ", text[: 4 * limit])
        text = "".join(
            " " if unicodedata.category(character)[0] in "CZ" else character for character in text
        )
        return " ".join(text.split())[:limit]

    def _tokens(self, prompt: str) -> int:
        return len(self._tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def _render(self, history: Sequence[HistoryItem], profile: str) -> str:
        template = self._template
        rated = any(item.rating is not None for item in history)
        messages = [{"role": "system", "content": template.system}]
        for example in template.examples:
            messages.append({"role": "user", "content": self._example(example, rated, profile)})
            messages.append({"role": "assistant", "content": example.answer})
        lines = [self._line(item) for item in history]
        liked = [line for line, item in zip(lines, history, strict=True) if self._likes(item)]
        disliked = [
            line for line, item in zip(lines, history, strict=True) if not self._likes(item)
        ]
        question = self._question(liked, disliked, lines, rated, self.clean(profile))
        messages.append({"role": "user", "content": question})
        return self._chat(messages) + template.first_words

    def _likes(self, item: HistoryItem) -> bool:
        return (
            item.rating is None or math.isnan(item.rating) or item.rating >= self._positive_rating
        )

    def _line(self, item: HistoryItem) -> str:
        title = shortened(self.clean(item.title), self._template.title_characters)
        details = self.clean(item.details)
        if not details:
            return title
        return self._template.item.format(title=title, details=details)

    def _example(self, example: Example, rated: bool, profile: str) -> str:
        # An example shows a profile only where the user has one, so that forms agree.
        return self._question(
            example.liked,
            example.disliked,
            example.liked,
            rated,
            example.profile if profile else "",
        )

    def _question(
        self, liked: list[str], disliked: list[str], lines: list[str], rated: bool, profile: str
    ) -> str:
        template = self._template
        who = template.profile.format(profile=profile) if profile else ""
        # Who liked nothing would have an empty prompt where the others are left out.
        if rated and (liked or template.history.shows_disliked):
            body = template.history.rated.format(
                profile=who,
                liked="\n".join(liked) or _NOTHING,
                disliked="\n".join(disliked) or _NOTHING,
            )
        else:
            body = template.history.unrated.format(profile=who, history="\n".join(lines))
        return body + template.question

    def _chat(self, messages: list[dict[str, str]]) -> str:
        if not self._tokenizer.chat_template:
            # A base model: plain paragraphs, behind the mark that it expects of a text's beginning.
            return self._begin + "\n\n".join(message["content"] for message in messages) + "\n\n"
        return str(
            self._tokenizer.apply_chat_template(
                messages if self._system_role else _merge_system(messages),
                tokenize=False,
                add_generation_prompt=True,
                # Some chat templates tell the LLM what day it is: the same seed, the same prompt.
                strftime_now=_DAY.strftime,
            )
        )


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    begin = tokenizer.bos_token_id
    return begin is not None and list(tokenizer("a")["input_ids"])[:1] == [begin]


def _places(n: int, order: Order, seed: int) -> list[int]:
    """The order in which ``n`` interactions are shown, 0 the oldest."""
    if order == "shuffled":
        places: list[int] = np.random.default_rng(seed).permutation(n).tolist()
        return places
    oldest_first = list(range(n))
    return oldest_first if order == "oldest_first" else oldest_first[::-1]


def _takes_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    # Gemma's and early Mistral's chat templates refuse a system message, others drop it. Their text
    # does not tell: Gemma's names the role in order to refuse it, plain ChatML names no role.
    mark = "SYSTEM"
    probe = [{"role": "system", "content": mark}, {"role": "user", "content": "?"}]
    try:
        return mark in str(tokenizer.apply_chat_template(probe, tokenize=False))
    except TemplateError:
        return False


def _merge_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    system, first, *rest = messages
    merged = {"role": first["role"], "content": f"{system['content']}\n\n{first['content']}"}
    return [merged, *rest]
