"""The multi-head attention block that PRM, SetRank and MIR are made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rlrf4rec.errors import ConfigError


class AttentionBlock(nn.Module):
    """``MAB(Q, X)``: Q attends to X, then a feed-forward layer; residual and normalised before.

    ``H = Q + Attention(norm(Q), norm(X))``, ``MAB = H + Feed(norm(H))``. Both papers normalise
    after the sum; before it trains without a warm-up.
    """

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        require_heads("hidden_dim", dim, n_heads)
        self.n_heads = n_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.query_norm, self.source_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feed = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, source: Tensor) -> Tensor:
        """``[b, q, c]`` attending to ``[b, l, c]``, to ``[b, q, c]``."""
        key, value = self.key_value(self.source_norm(source)).chunk(2, dim=-1)
        attended = scaled_dot_product_attention(
            self._heads(self.query(self.query_norm(queries))), self._heads(key), self._heads(value)
        )
        joined = attended.transpose(1, 2).flatten(2)
        hidden = queries + self.dropout(self.out(joined))
        result: Tensor = hidden + self.dropout(self.feed(hidden))
        return result

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.n_heads, -1).transpose(1, 2)


def require_heads(setting: str, dim: int, n_heads: int) -> None:
    """Raise `ConfigError` unless the heads divide the numbers of a setting evenly."""
    if dim % n_heads:
        raise ConfigError(
            f"a {setting} that n_heads ({n_heads}) divides",
            found=f"{setting} {dim}",
            remedy="Change one of the two.",
        )
