"""From a raw log to what the method needs: a cleaned data set, reading histories, candidate lists
and user folds. Sources differ only in how their files are read (`movielens`, `table`); all of them
pass the same checks (`cleaning`).
"""

from rlrf4rec.data.cleaning import load_dataset
from rlrf4rec.data.describe import describe
from rlrf4rec.data.folds import (
    folds_from_frame,
    folds_of,
    folds_to_frame,
    make_folds,
    require_feedback,
)
from rlrf4rec.data.splits import (
    candidate_lists,
    latest_histories,
    popularity,
    reading_histories,
)

__all__ = [
    "candidate_lists",
    "describe",
    "folds_from_frame",
    "folds_of",
    "folds_to_frame",
    "latest_histories",
    "load_dataset",
    "make_folds",
    "popularity",
    "reading_histories",
    "require_feedback",
]
