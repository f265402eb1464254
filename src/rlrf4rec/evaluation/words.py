"""How the report puts systems, numbers and foreign text into words."""

from __future__ import annotations

import unicodedata

from rlrf4rec.evaluation.results import MEAN, WITH_HISTORY, ComparisonRow, tuned_round

_MINUS = "\u2212"

_SYSTEMS = {
    "random": ("Random order", "none", "candidates in random order"),
    "popularity": ("Popularity", "none", "candidates by their number of training interactions"),
    "first_stage": ("First stage", "none", "the order that the first-stage recommender gave"),
    "id": ("ID only", "none", "the recommender without any knowledge"),
    "profile": (
        "Profile vector",
        "other",
        "non-LLM knowledge: mean text vector of the read items, weighted by rating",
    ),
    "history_text": (
        "History's own text",
        "other",
        "non-LLM knowledge: the reading history's text, encoded as it stands",
    ),
    "llm_zero_shot": (
        "LLM zero-shot",
        "untuned",
        "no recommender: each title's likelihood after the untuned LLM's preference text",
    ),
    "shuffled": ("Shuffled texts", "control", "each user is given another user's text"),
    "random_pairs": ("Random-pair DPO", "control", "DPO on pairs chosen at random"),
    "untuned": ("Untuned LLM", "untuned", "one sampled text of the LLM before tuning"),
    "untuned_cool": (
        "Untuned LLM, cool",
        "untuned",
        "one text of the LLM before tuning, sampled at a lower temperature",
    ),
    "best_of_n": (
        "Best of N",
        "untuned",
        "the untuned LLM's text with the highest reward on the user's other lists",
    ),
    "untuned_mean": (
        "Untuned LLM, mean",
        "untuned",
        "the mean of several sampled texts of the LLM before tuning",
    ),
    "untuned_with_history": (
        "Untuned LLM and history",
        "untuned",
        "the untuned LLM's text, encoded together with the history's own",
    ),
    "untuned_mean_with_history": (
        "Untuned LLM, mean, and history",
        "untuned",
        "the mean of several texts of the untuned LLM, each encoded with the history's own",
    ),
}

_VARIANTS = {
    "": ("", "one sampled text of the LLM after that many rounds of tuning"),
    MEAN: (", mean", "the mean of several sampled texts of the tuned LLM"),
    WITH_HISTORY: (
        ", and history",
        "the tuned LLM's text, encoded together with the history's own",
    ),
    f"{MEAN}{WITH_HISTORY}": (
        ", mean, and history",
        "the mean of several texts of the tuned LLM, each encoded with the history's own",
    ),
}

GROUPS = {
    "none": "no user knowledge",
    "other": "non-LLM knowledge",
    "control": "control",
    "untuned": "untuned LLM",
    "tuned": "tuned LLM",
}
"""Groups of systems; charts and tables give each its own marker."""

_KINDS = {
    "uniform": "negatives drawn uniformly",
    "popular": "negatives drawn in proportion to popularity",
    "first_stage": "candidates of a first-stage recommender",
}

_BACKBONES = {
    "dlcm": "DLCM",
    "prm": "PRM",
    "setrank": "SetRank",
    "mir": "MIR",
    "sasrec": "SASRec",
    "gru4rec": "GRU4Rec",
}

_METRICS = {
    "ndcg": "NDCG",
    "map": "MAP",
    "map_hits": "MAP-hits",
    "hr": "HR",
    "mrr": "MRR",
    "cold_ndcg": "Cold NDCG",
    "user_ndcg": "User-mean NDCG",
}

# Bidirectional controls can make text read other than it is; they are Cf, as is the harmless
# zero-width joiner that emoji and several scripts need.
_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
_LINES = {"\n", "\t"}


def system_label(system: str) -> str:
    """A system's name for people.

    >>> system_label("tuned_round_2"), system_label("my_own")
    ('Tuned, round 2', 'my_own')
    """
    tuned = tuned_round(system)
    if tuned is not None:
        number, variant = tuned
        return f"Tuned, round {number}{_VARIANTS[variant][0]}"
    return _SYSTEMS[system][0] if system in _SYSTEMS else system


def system_group(system: str) -> str:
    """Which of `GROUPS` a system belongs to."""
    if system in _SYSTEMS:
        return _SYSTEMS[system][1]
    return "tuned" if system.startswith("tuned_round_") else "other"


def system_meaning(system: str) -> str:
    """What a row of the table is, in one line; empty for a user's own system."""
    if system in _SYSTEMS:
        return _SYSTEMS[system][2]
    tuned = tuned_round(system)
    return "" if tuned is None else _VARIANTS[tuned[1]][1]


def kind_label(kind: str) -> str:
    """How the lists of a kind were made."""
    return _KINDS.get(kind, "")


def backbone_label(backbone: str | None) -> str:
    """A recommender's usual spelling; ``none`` where a system uses none."""
    return "none" if backbone is None else _BACKBONES.get(backbone, backbone)


def metric_label(metric: str) -> str:
    """A metric's usual spelling.

    >>> metric_label("ndcg@5"), metric_label("map_hits@5"), metric_label("mrr")
    ('NDCG@5', 'MAP-hits@5', 'MRR')
    """
    family, at, k = metric.partition("@")
    return _METRICS.get(family, family) + at + k


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number with a true minus sign; ``n/a`` for None.

    >>> number(0.004, sign=True), number(None)
    ('+0.004', 'n/a')
    """
    if value is None:
        return "n/a"
    text = f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", _MINUS)


def p_value(p: float | None) -> str:
    """p with the digits it deserves.

    >>> p_value(0.0009995), p_value(0.25)
    ('0.001', '0.25')
    """
    if p is None:
        return "n/a"
    if p < 0.0005:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def verdict(row: ComparisonRow) -> str:
    """What the 95 % interval of a difference allows to say about ``a``."""
    if row.ci95 is None:
        return "too few users to tell"
    low, high = row.ci95
    if low > 0:
        return "higher"
    if high < 0:
        return "lower"
    return "no clear difference"


def duration(seconds: float) -> str:
    """Wall time.

    >>> duration(4.25), duration(151.2), duration(7260)
    ('4.2 s', '2 min 31 s', '2 h 1 min')
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def visible(text: str) -> str:
    """Text of unknown origin with its control characters written out.

    Control characters, bidirectional overrides and lone surrogates become ``[U+202E]``; line
    breaks and tabs stay. Markup is left alone: escaping it is the template's work.

    >>> visible("a\\u202eb\\x00")
    'a[U+202E]b[U+0000]'
    """
    return "".join(f"[U+{ord(char):04X}]" if _hidden(char) else char for char in text)


def _hidden(char: str) -> bool:
    if char in _LINES:
        return False
    return ord(char) in _BIDI or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
