"""What the report tells of single users and of the tuning, beside the numbers of `Results`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadItem:
    """An item of the reading history; ``rating`` is None where the log has none."""

    title: str
    rating: float | None = None


@dataclass(frozen=True)
class RankedItem:
    """A candidate at its rank; ``positive`` is the user's later feedback."""

    title: str
    positive: bool


@dataclass(frozen=True)
class RewardedText:
    """A sampled text; ``reward`` is None where it could not be scored."""

    text: str
    reward: float | None


@dataclass(frozen=True)
class Story:
    """One user, from history to reranked list.

    Attributes:
        user_id: the log's own id.
        history: the reading history that the LLM was shown, oldest first.
        best: the untuned text with the highest reward; None where nothing was rewarded.
        worst: the one with the lowest.
        text_before: what the untuned LLM wrote.
        text_after: what the LLM wrote after tuning; None where nothing was tuned.
        list_before: one candidate list, best rank first, ranked with ``text_before``.
        list_after: the same list, ranked with ``text_after``; empty where nothing was tuned.
        note: how the lists were ranked, for example the backbone's name; may be empty.
    """

    user_id: str
    history: list[ReadItem]
    best: RewardedText | None
    worst: RewardedText | None
    text_before: str
    text_after: str | None
    list_before: list[RankedItem]
    list_after: list[RankedItem]
    note: str = ""


@dataclass(frozen=True)
class CurvePoint:
    """DPO at one optimiser step.

    Attributes:
        step: 1 is the first update.
        loss: DPO loss, in nats.
        margin: mean implicit reward of chosen minus rejected: beta times the difference of the two
            log-probability ratios to the reference.
        accuracy: share of pairs with a positive margin.
    """

    step: int
    loss: float
    margin: float
    accuracy: float
