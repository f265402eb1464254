"""How well texts serve the recommender, and how surely.

`metrics` scores candidate lists, `intervals` puts confidence intervals on means and differences by
resampling users, `results` is the machine-readable outcome of a run, and `report` (with `stories`
and `charts`) turns it into one page for people.
"""

from rlrf4rec.evaluation.intervals import Comparison, Estimate, compare, estimate
from rlrf4rec.evaluation.metrics import (
    cold_metrics,
    list_metrics,
    metric_names,
    ndcg,
    user_means,
)
from rlrf4rec.evaluation.results import Results, read_results, results_table, write_results

__all__ = [
    "Comparison",
    "Estimate",
    "Results",
    "cold_metrics",
    "compare",
    "estimate",
    "list_metrics",
    "metric_names",
    "ndcg",
    "read_results",
    "results_table",
    "user_means",
    "write_results",
]
