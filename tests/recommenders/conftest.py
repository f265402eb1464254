from __future__ import annotations

import pytest
from small_world import BACKBONES, SmallWorld, make_world

from rlrf4rec.recommenders import FittedRecommender


@pytest.fixture(scope="session")
def world() -> SmallWorld:
    return make_world()


@pytest.fixture(scope="session", params=BACKBONES)
def fitted(request: pytest.FixtureRequest, world: SmallWorld) -> FittedRecommender:
    return world.fit(request.param)
