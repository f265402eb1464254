"""What every list is ranked with: the users' reading and the text vectors, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlrf4rec.errors import DataError
from rlrf4rec.records import PADDING, CandidateLists, Float32Array, Histories, IntArray


@dataclass(frozen=True)
class ListInputs:
    """Tensors prepared once and shared by every recommender of a run.

    Attributes:
        history_items: ``[u, h]`` int64, padded with `PADDING`.
        history_ratings: ``[u, h]`` float32, NaN where padded or where the log has no ratings.
        item_knowledge: ``[i, d]`` float32, one text vector an item, or None.
        user_knowledge: ``[r, d]`` float32, ``r`` text vectors of users, several or none of each;
            `fit` and `score` are told which rows are whose. Or None.
        n_items: items in the catalogue, ``i``; without item texts, at least as many as were read.
    """

    history_items: Tensor
    history_ratings: Tensor
    item_knowledge: Tensor | None
    user_knowledge: Tensor | None
    n_items: int

    @classmethod
    def from_numpy(
        cls,
        histories: Histories,
        item_knowledge: Float32Array | None,
        user_knowledge: Float32Array | None,
        n_items: int | None = None,
    ) -> ListInputs:
        """Copy the arrays into tensors.

        Args:
            histories: every user's reading history.
            item_knowledge: ``[i, d]`` or None.
            user_knowledge: ``[r, d]`` or None.
            n_items: items in the catalogue. None: as many as there are item texts; without them,
                `fit` goes by the items it meets in histories and lists.

        Raises:
            DataError: text vectors that are not a finite matrix, or users' and items' text vectors
                of different dimensions (they must come from one encoder to be matched).
        """
        item = None if item_knowledge is None else _vectors("item_knowledge", item_knowledge)
        user = None if user_knowledge is None else _vectors("user_knowledge", user_knowledge)
        if item is not None and user is not None and item.shape[1] != user.shape[1]:
            raise DataError(
                "text vectors of users and items from the same encoder",
                found=f"dimension {user.shape[1]} for users, {item.shape[1]} for items",
                remedy="Encode both with the encoder named in knowledge.encoder.",
            )
        if n_items is None:
            last_read = int(histories.items.max(initial=PADDING))
            n_items = last_read + 1 if item is None else len(item)
        if item is not None and len(item) != n_items:
            raise DataError(
                f"one text vector for each of {n_items} items",
                found=f"{len(item)} text vectors",
                remedy="Encode the texts of the whole catalogue, in its order.",
            )
        check_range("read items", histories.items, n_items, lowest=PADDING)
        return cls(
            torch.tensor(histories.items, dtype=torch.int64),
            torch.tensor(histories.ratings, dtype=torch.float32),
            item,
            user,
            n_items,
        )

    def __reduce__(self) -> tuple[object, ...]:
        # As arrays: tensors go to workers by shared memory, of which containers have little.
        texts = (self.item_knowledge, self.user_knowledge)
        arrays = [None if vectors is None else vectors.numpy() for vectors in texts]
        read = self.history_items.numpy(), self.history_ratings.numpy()
        return _from_arrays, (*read, *arrays, self.n_items)

    @property
    def n_users(self) -> int:
        return self.history_items.shape[0]

    @property
    def text_dim(self) -> int:
        """``d``, or 0 without any text."""
        for vectors in (self.item_knowledge, self.user_knowledge):
            if vectors is not None:
                return vectors.shape[1]
        return 0


def check_lists(lists: CandidateLists, inputs: ListInputs, n_items: int) -> None:
    """Every list belongs to a known user and is full of known items.

    Raises:
        DataError: naming the first wrong row.
    """
    check_range("users", lists.user, inputs.n_users)
    check_range("items", lists.items, n_items)


def check_rows(rows: IntArray, lists: CandidateLists, inputs: ListInputs) -> None:
    """Knowledge rows ``[n, s]`` point at text vectors, or are -1.

    Raises:
        DataError: wrong shape or a row that is not there.
    """
    if rows.ndim != 2 or len(rows) != len(lists):
        raise DataError(
            f"knowledge rows for {len(lists)} lists",
            found=f"an array of shape {rows.shape}",
            remedy="Give one row (or -1) a list and text: shape [lists] or [lists, texts].",
        )
    n_texts = 0 if inputs.user_knowledge is None else len(inputs.user_knowledge)
    check_range("knowledge rows", rows, n_texts, lowest=PADDING)


def _vectors(name: str, array: Float32Array) -> Tensor:
    if array.ndim != 2 or not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array)).tolist()
        raise DataError(
            f"{name} as a matrix of finite numbers",
            found=f"shape {array.shape}" + (f", no number at {tuple(bad[0])}" if len(bad) else ""),
            remedy="Encode the texts again; a cached vector may be damaged.",
        )
    # Copied into torch's own memory: how numbers lie in memory can change a sum's last bits.
    return torch.tensor(array, dtype=torch.float32)


def _from_arrays(
    history_items: IntArray,
    history_ratings: Float32Array,
    item_knowledge: Float32Array | None,
    user_knowledge: Float32Array | None,
    n_items: int,
) -> ListInputs:
    return ListInputs(
        torch.tensor(history_items),
        torch.tensor(history_ratings),
        None if item_knowledge is None else torch.tensor(item_knowledge),
        None if user_knowledge is None else torch.tensor(user_knowledge),
        n_items,
    )


def check_range(name: str, values: IntArray, end: int, lowest: int = 0) -> None:
    """Every value lies in ``lowest .. end - 1``.

    Raises:
        DataError: naming the first that does not.
    """
    if not values.size or (values.min() >= lowest and values.max() < end):
        return
    wrong = np.argwhere((values < lowest) | (values >= end))
    where = tuple(int(part) for part in wrong[0])
    raise DataError(
        f"{name} between {lowest} and {end - 1}",
        found=f"{int(values[where])} at {where}",
        remedy="Lists, histories and text vectors must come from the same data set, and lists "
        "must be full: rank lists of different lengths in separate calls.",
    )
