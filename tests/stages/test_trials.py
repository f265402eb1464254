"""What a system's recommenders start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from rlrf4rec.recommenders import FittedRecommender
from rlrf4rec.stages.systems import profile, without_text
from rlrf4rec.stages.trials import fold_name, run_trial, trial_of
from rlrf4rec.stages.world import World


def test_kept_recommenders_are_a_base_as_good_as_one_of_their_own(
    world: World, tmp_path: Path
) -> None:
    by_ids = trial_of(world, without_text(world), "popular", "prm", 0)
    alone = run_trial(replace(by_ids, keep=tmp_path / "base"))
    with_text = trial_of(world, profile(world), "popular", "prm", 0)
    own = run_trial(with_text)
    shared = run_trial(replace(with_text, base=tmp_path / "base", keep=tmp_path / "fitted"))
    np.testing.assert_array_equal(shared, own)
    assert np.abs(shared - alone).max() > 1e-4
    base, fitted = (
        FittedRecommender.load(tmp_path / name / fold_name(0)) for name in ("base", "fitted")
    )
    learned = fitted.model.state_dict()
    assert all((learned[name] == weight).all() for name, weight in base.model.state_dict().items())
