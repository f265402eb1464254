"""What all sections are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
# transformers seeds numpy's old generator, which takes 32 bits.
Seed = Annotated[int, Field(ge=0, lt=2**32)]

# A shipped reranker, or the import path of one's own: package.module:Class.
Backbone = Annotated[
    str, Field(pattern=r"^(dlcm|prm|setrank|mir|sasrec|gru4rec|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$")
]


# Where the negatives of candidate lists come from.
ListKind = Literal["uniform", "popular", "first_stage"]

# In which a prompt shows interactions.
Order = Literal["shuffled", "oldest_first", "newest_first"]


class Section(BaseModel):
    """A part of the configuration; an unknown key is an error, and so is inf or NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
