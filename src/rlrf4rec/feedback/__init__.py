"""Steps 3 and 4: the recommender's feedback on texts, and the pairs chosen by it."""

from rlrf4rec.feedback.expectation import expected_rewards
from rlrf4rec.feedback.foresight import foreseen_rewards
from rlrf4rec.feedback.pairs import choose_pairs, choose_random_pairs
from rlrf4rec.feedback.rewards import RewardModels, fit_reward_models, reward_texts

__all__ = [
    "RewardModels",
    "choose_pairs",
    "choose_random_pairs",
    "expected_rewards",
    "fit_reward_models",
    "foreseen_rewards",
    "reward_texts",
]
