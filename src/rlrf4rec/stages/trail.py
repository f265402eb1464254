"""What the rounds of a run leave behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlrf4rec.workspace import Stage


@dataclass
class Round:
    """What a round made; a stage for each policy (the half it was tuned on)."""

    number: int
    samples: dict[int, Stage] = field(default_factory=dict)
    rewards: dict[int, Stage] = field(default_factory=dict)
    judged: dict[int, Stage] = field(default_factory=dict)
    pairs: dict[int, Stage] = field(default_factory=dict)
    tuning: dict[int, Stage] = field(default_factory=dict)

    def folder(self, half: int) -> str:
        """Where this round's stages of a policy are; also the writer's name, which seeds texts."""
        return f"round-{self.number}/policy-{half}"


@dataclass
class Trail:
    """All rounds, the controls, and whether the reward's fall stopped it.

    Attributes:
        random_pairs: tuned on pairs chosen at random.
        cool: the untuned LLM's texts at a lower temperature.
    """

    prompts: Stage
    rounds: list[Round] = field(default_factory=list)
    random_pairs: Round | None = None
    cool: Stage | None = None
    stopped_early: bool = False

    @property
    def final(self) -> Round:
        """The round whose policy is kept: the one before the reward fell, else the last."""
        return self.rounds[-2] if self.stopped_early else self.rounds[-1]
