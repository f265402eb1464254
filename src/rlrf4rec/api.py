"""A finished run as an object."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rlrf4rec.evaluation.results import Results, read_results
from rlrf4rec.progress import Reporter, Silent
from rlrf4rec.workspace import Workspace, read_frame

if TYPE_CHECKING:
    import polars as pl

    from rlrf4rec.serving import Ranking, RankRequest, Reranker
    from rlrf4rec.serving.requests import History
    from rlrf4rec.stages.reward_function import RecommenderReward
    from rlrf4rec.stages.trail import Trail
    from rlrf4rec.stages.world import World


def load_run(folder: Path | str) -> Run:
    """Open a finished run.

    Raises:
        WorkspaceError: not a run folder, or a run that is not finished.
    """
    Workspace(folder).require_run()
    return Run(Path(folder), read_results(Path(folder) / "results.json"))


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run; `load_run` makes it.

    Attributes:
        folder: where it lies.
        results: what it has shown.
    """

    folder: Path
    results: Results

    @cached_property
    def texts(self) -> pl.DataFrame:
        """The deployed preference texts: ``user_id``, ``sample``, ``text``.

        Raises:
            WorkspaceError: the file is missing or damaged.
        """
        frame = read_frame(
            self.folder / "deployed" / "texts.parquet",
            "a finished run's texts",
            remedy="Delete the folder 'deployed' and make it again: rlrf4rec evaluate RUN",
        )
        return frame.select("user_id", "sample", "text")

    @cached_property
    def reranker(self) -> Reranker:
        """The deployed reranker, loaded once.

        Raises:
            WorkspaceError: its files are missing or damaged.
        """
        from rlrf4rec.serving import Reranker

        return Reranker.load(self.folder)

    def rerank(
        self,
        candidates: Sequence[str],
        *,
        user_id: str | None = None,
        history: History | None = None,
    ) -> Ranking:
        """Rank one candidate list; see `Reranker.rerank`."""
        return self.reranker.rerank(candidates, user_id=user_id, history=history)

    def rerank_many(self, requests: Sequence[RankRequest]) -> list[Ranking]:
        """Rank many candidate lists at once; see `Reranker.rerank_many`."""
        return self.reranker.rerank_many(requests)

    def infer(
        self, user_ids: Sequence[str], n_samples: int = 1, reporter: Reporter | None = None
    ) -> pl.DataFrame:
        """Let the run's LLM write texts for users of the log; see `infer_texts`.

        Raises:
            RLRF4RecError: unknown users, missing parts, or a run that another process writes to.
        """
        from rlrf4rec.stages.inferring import infer_texts

        world, trail = self._open()
        world = dataclasses.replace(world, reporter=reporter or Silent())
        return infer_texts(world, trail, user_ids, n_samples)

    def export(self, folder: Path | str, policy: int = 0) -> None:
        """Write the run's tuned LLM as a plain model folder; see `export_model`.

        Raises:
            RLRF4RecError: nothing was tuned, missing parts, or a folder that holds something.
        """
        from rlrf4rec.stages.exporting import export_model

        export_model(*self._open(), Path(folder), policy)

    def reward_function(self) -> RecommenderReward:
        """The recommender's feedback, in the signature of TRL's online trainers (GRPO, RLOO).

        Raises:
            RLRF4RecError: a run that another process writes to, or its reward models are missing.
        """
        from rlrf4rec.stages.reward_function import RecommenderReward

        world, trail = self._open()
        # The lock is not held any longer: the run's folder may be read, not written to.
        world.encoder.stop_storing()
        return RecommenderReward(world, trail)

    def _open(self) -> tuple[World, Trail]:
        from rlrf4rec.loop import run_rounds
        from rlrf4rec.running import run_config
        from rlrf4rec.stages.world import open_world

        workspace = Workspace(self.folder, replay=True)
        with workspace.lock():
            world = open_world(run_config(self.folder), workspace)
            return world, run_rounds(world)
