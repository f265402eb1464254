"""What training makes small."""

from __future__ import annotations

from torch import Tensor


def list_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Negative mean log-likelihood of the positives under each list's softmax.

    ``-1/|P| sum_{j in P} log softmax(scores)_j``, averaged over lists; its negative is the smooth
    reward.

    Args:
        scores: ``[..., l]``.
        labels: ``[..., l]``, 1 for a positive; at least one in every list.
    """
    likelihood = (scores.log_softmax(-1) * labels).sum(-1) / labels.sum(-1)
    return -likelihood.mean()
