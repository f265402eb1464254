from __future__ import annotations

import pytest
import torch
from torch.nn.functional import gelu

from rlrf4rec.config import KnowledgeConfig
from rlrf4rec.knowledge.adaptors import (
    HybridExpertAdaptor,
    KnowledgeAdaptor,
    MLPAdaptor,
    _Experts,
    build_adaptor,
)


@pytest.fixture(params=["hea", "mlp"])
def adaptor(request: pytest.FixtureRequest) -> KnowledgeAdaptor:
    torch.manual_seed(0)
    return build_adaptor(KnowledgeConfig(adaptor=request.param), ("user", "item"), 6, 4)


def test_keeps_leading_dimensions_and_reads_each_row_alone(adaptor: KnowledgeAdaptor) -> None:
    vectors = torch.randn(2, 3, 6)
    adapted = adaptor(vectors, "user")
    assert adapted.shape == (2, 3, 4)
    torch.testing.assert_close(adapted[1, 2], adaptor(vectors[1, 2], "user"))


def test_kinds_are_read_differently(adaptor: KnowledgeAdaptor) -> None:
    vectors = torch.randn(5, 6)
    assert not torch.allclose(adaptor(vectors, "user"), adaptor(vectors, "item"))


def test_hybrid_experts_are_the_gated_sum_of_their_experts() -> None:
    """``sum_j softmax(G x)_j E_j(x)``, written out expert by expert."""
    torch.manual_seed(0)
    adaptor = HybridExpertAdaptor(("user",), 6, 4, shared_experts=1, own_experts=2)
    x = torch.randn(6)
    gates = adaptor.gates["user"](x).softmax(0)
    expected = torch.zeros(4)
    for gate, (experts, j) in zip(
        gates,
        [(adaptor.shared, 0), (_own(adaptor, "user"), 0), (_own(adaptor, "user"), 1)],
        strict=True,
    ):
        width = experts.width
        rows = slice(j * width, (j + 1) * width)
        hidden = gelu(experts.first.weight[rows] @ x + experts.first.bias[rows])
        expected = expected + gate * (hidden @ experts.second[j])
    torch.testing.assert_close(adaptor(x, "user"), expected)


def test_shared_experts_learn_from_both_kinds_and_own_experts_from_theirs() -> None:
    adaptor = HybridExpertAdaptor(("user", "item"), 6, 4, shared_experts=1, own_experts=1)
    adaptor(torch.randn(3, 6), "item").sum().backward()
    assert adaptor.shared.first.weight.grad is not None
    assert _own(adaptor, "item").first.weight.grad is not None
    assert _own(adaptor, "user").first.weight.grad is None


def test_settings_choose_the_adaptor() -> None:
    hea = build_adaptor(
        KnowledgeConfig(adaptor="hea", shared_experts=3, own_experts=4), ("item",), 6, 4
    )
    assert isinstance(hea, HybridExpertAdaptor)
    assert hea.gates["item"](torch.zeros(6)).shape == (7,)
    assert isinstance(build_adaptor(KnowledgeConfig(adaptor="mlp"), ("item",), 6, 4), MLPAdaptor)


def _own(adaptor: HybridExpertAdaptor, kind: str) -> _Experts:
    experts = adaptor.own[kind]
    assert isinstance(experts, _Experts)
    return experts
