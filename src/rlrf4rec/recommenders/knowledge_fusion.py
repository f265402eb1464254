"""How text joins the ID features: standardise, adapt, match.

All texts of an LLM look alike: their vectors fill a narrow cone, and 384 of its coordinates are
many for a few hundred users. So the vectors are centred, scaled and brought to their leading
principal directions once, without training; what is trained comes after. Simply joined to the ID
features, text changes next to nothing on small data; a match between user and item text that
*begins* as their cosine and is trained from there does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PRINCIPAL_DIM = 64
"""Directions kept of a text vector. On MovieLens-100K item texts, 32 of 384 hold half the variance
and match users and items, untrained, as well as all 384; the rest is kept for the adaptors."""

LEARNED_FROM = 16_384
"""Vectors that directions and scale are learned from, at most: more say the same, and of 200,000
items' vectors they would take longer to learn than all that is trained."""


class TextSpace(nn.Module):
    """Fixed map from text vectors ``[..., d]`` to ``[..., k]``, learned from data but not trained.

    ``(x - mean) / scale @ basis``. Users and items have a mean and a scale of their own and share
    the basis, so that they stay comparable. The scale gives the kept coordinates, taken together,
    unit variance.
    """

    user_mean: Tensor
    user_scale: Tensor
    item_mean: Tensor
    item_scale: Tensor
    basis: Tensor

    def __init__(self, text_dim: int) -> None:
        super().__init__()
        self.out_dim = min(text_dim, PRINCIPAL_DIM)
        for kind in ("user", "item"):
            self.register_buffer(f"{kind}_mean", torch.zeros(text_dim))
            self.register_buffer(f"{kind}_scale", torch.ones(()))
        self.register_buffer("basis", torch.eye(text_dim, self.out_dim))

    @torch.no_grad()
    def learn(self, item: Tensor | None, user: Tensor | None) -> None:
        """Take means, scales and directions from the catalogue and the training users' texts.

        Args:
            item: ``[i, d]`` or None.
            user: ``[r, d]``, training rows only, or None. The directions come from the items where
                there are any: user texts are read for what they say about items.
        """
        source = item if item is not None else user
        if source is None:
            return
        self.basis.copy_(_principal_directions(source[spaced(len(source))], self.out_dim))
        for kind, vectors in (("item", item), ("user", user)):
            if vectors is None:
                continue
            mean = vectors.mean(0)
            some = vectors[spaced(len(vectors))]
            spread = ((some - mean) @ self.basis).square().mean().sqrt()
            self.get_buffer(f"{kind}_mean").copy_(mean)
            # Vectors that are all the same have no scale of their own.
            self.get_buffer(f"{kind}_scale").fill_(float(spread) if spread > 1e-6 else 1.0)

    @torch.no_grad()
    def users(self, vectors: Tensor) -> Tensor:
        """``[r, d]`` to ``[r, k]``."""
        return (vectors - self.user_mean) / self.user_scale @ self.basis

    @torch.no_grad()
    def items(self, vectors: Tensor) -> Tensor:
        """``[i, d]`` to ``[i, k]``."""
        return (vectors - self.item_mean) / self.item_scale @ self.basis


class LearnedMatch(nn.Module):
    """Element-wise product of the user's and the item's text, each through a projection.

    Both projections begin as the leading principal directions, so the sum over the product begins
    as the texts' scaled dot product: training refines a match that is already there. Its weight
    begins at zero: what it is worth is learned, too.
    """

    def __init__(self, text_dim: int, match_dim: int) -> None:
        super().__init__()
        self.dim = match_dim
        self.user = nn.Linear(text_dim, match_dim, bias=False)
        self.item = nn.Linear(text_dim, match_dim, bias=False)
        for projection in (self.user, self.item):
            nn.init.eye_(projection.weight)
        self.weight = nn.Parameter(torch.zeros(()))

    def score(self, match: Tensor) -> Tensor:
        """The match's own share of the score: ``[..., m]`` to ``[...]``."""
        share: Tensor = self.weight * match.sum(-1) / match.shape[-1] ** 0.5
        return share


def spaced(n: int) -> slice:
    """Of ``n`` rows `LEARNED_FROM` or fewer, at equal distances; all of them where they are few."""
    return slice(None, None, max(-(-n // LEARNED_FROM), 1))


def _principal_directions(vectors: Tensor, n_directions: int) -> Tensor:
    """``[n, d]`` to an orthonormal ``[d, k]``, the direction with the largest variance first."""
    centred = (vectors - vectors.mean(0)).double()
    _, every = torch.linalg.eigh(centred.T @ centred)
    leading = every.flip(1)[:, :n_directions]
    # An eigenvector's sign is arbitrary; fix it, so that equal data gives equal directions.
    largest = leading.gather(0, leading.abs().argmax(0, keepdim=True))
    directions: Tensor = (leading * largest.sign()).float()
    return directions
