"""What all training has in common: the optimisers, and epochs until the validation loss rests."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from rlrf4rec.config import RecommenderConfig
from rlrf4rec.recommenders.base import Recommender
from rlrf4rec.recommenders.fitted import Losses

TEXT_PACE = 0.1
"""Learning rate of the weights that read text, as a share of the others'. NDCG@5 of validation
users over IDs alone, with tuned texts: 0.016 at 0.1, 0.014 at 0.3 (docs/concepts/evidence.md, lab
book, 35)."""


def make_optimizer(model: Recommender, config: RecommenderConfig) -> torch.optim.Optimizer:
    """AdamW over every weight; those that read text go at `TEXT_PACE`, biases without decay."""
    text = model.features.text_parameters()
    in_text = {id(weight) for weight in text}
    # Decay would pull items towards one another, away from the odds they start at.
    bias = model.features.item_bias.weight
    apart = {*in_text, id(bias)}
    rest = [weight for weight in model.parameters() if id(weight) not in apart]
    rate = config.learning_rate
    return _adamw(
        config,
        [
            {"params": rest, "lr": rate},
            {"params": text, "lr": rate * TEXT_PACE},
            {"params": [bias], "lr": rate, "weight_decay": 0.0},
        ],
    )


def make_text_optimizer(model: Recommender, config: RecommenderConfig) -> torch.optim.Optimizer:
    """AdamW over the weights that read text; all others are frozen."""
    match = model.features.match
    # One number, from zero, that everything the match says is multiplied by: it may go faster.
    volume = [] if match is None else [match.weight]
    text = [
        weight
        for weight in model.features.text_parameters()
        if all(weight is not other for other in volume)
    ]
    for weight in model.parameters():
        weight.requires_grad_(False)
    for weight in (*text, *volume):
        weight.requires_grad_(True)
    rate = config.learning_rate
    return _adamw(
        config,
        [
            {"params": text, "lr": rate * TEXT_PACE},
            {"params": volume, "lr": rate, "weight_decay": 0.0},
        ],
    )


def _adamw(config: RecommenderConfig, groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


def run_epochs(
    model: Recommender,
    config: RecommenderConfig,
    train_part: Callable[[int], float],
    validation_loss: Callable[[], float] | None,
    *,
    parts: int = 1,
    from_base: bool = False,
) -> tuple[Losses, ...]:
    """Train; leave the weights of the best validation loss in the model, in evaluation mode.

    Args:
        model: what is trained.
        config: its ``max_epochs``, ``min_epochs`` and ``patience`` are used.
        train_part: trains the part of a number, counted over all epochs, and returns its loss.
        validation_loss: None: all `max_epochs` are trained, and the last weights are kept.
        parts: of an epoch. The loss is validated after each of them.
        from_base: the model ranks well already: `min_epochs` is not waited for, and where training
            betters nothing, the weights that it started with are kept.

    Returns:
        The losses of each part.
    """
    history: list[Losses] = []
    best, best_weights, waited = float("inf"), None, 0
    if from_base and validation_loss is not None:
        best, best_weights = validation_loss(), copy.deepcopy(model.state_dict())
    at_least = 0 if from_base else config.min_epochs * parts
    for part in range(config.max_epochs * parts):
        train_loss = train_part(part)
        if validation_loss is None:
            history.append(Losses(train_loss, None))
            continue
        loss = validation_loss()
        history.append(Losses(train_loss, loss))
        if loss < best:
            best, waited = loss, 0
            best_weights = copy.deepcopy(model.state_dict())
        else:
            waited += 1
        if waited >= config.patience * parts and part + 1 >= at_least:
            break
    if best_weights is not None:
        model.load_state_dict(best_weights)
    model.eval()
    return tuple(history)
