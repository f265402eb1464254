"""What a finished run is for: reranking with stored vectors, without the LLM or its encoder."""

from rlrf4rec.serving.requests import Ranked, Ranking, RankRequest, RatingScale
from rlrf4rec.serving.reranker import Reranker

__all__ = ["RankRequest", "Ranked", "Ranking", "RatingScale", "Reranker"]
