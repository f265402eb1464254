"""A tuning's passes through the language model, recorded on a GPU by the shape of what they read.

Rows are padded to few shapes. The first pass of a shape is made as it is, the second is recorded,
forward and backward; those after it are started by one call each (`cuda_graphs`).

Shape legend: see `packing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from rlrf4rec.alignment.known_modules import KnownModules
from rlrf4rec.alignment.packing import visibility
from rlrf4rec.cuda_graphs import Pool, can_record, new_pool, record, warm_up
from rlrf4rec.generation.packable import find_obstacle
from rlrf4rec.say_once import say_once

_ROWS, _WIDTH = 4, 128
"""Shapes are multiples of these."""

_MOST_PADDING = 1.3
"""Times a batch's tokens that a recorded shape may hold to be taken for it: recording another one
takes as long as some steps."""

_MOST_RECORDED = 16
"""Shapes."""


class RecordedPasses:
    """Of one causal language model, whose weights stay where they are.

    Args:
        model: with an adapter or without; on its device, and none of its modules will be replaced.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.modules = KnownModules(model)
        self._adapter = next(iter(self.modules.adapters), None)
        self._seen: Counter[object] = Counter()
        self._recorded: list[_Recording] = []
        self._room = _MOST_RECORDED
        # What a forward pass leaves for its backward pass must outlive the reference's pass.
        self._pools = {gradients: new_pool(model.device) for gradients in (False, True)}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While open, the model's backbone is read by recorded passes where they are to be had."""
        backbone = self.model.base_model
        if not self._applies():
            yield
            return
        own_forward = backbone.forward

        def forward(
            input_ids: Tensor,
            attention_mask: Tensor,
            position_ids: Tensor | None = None,
            **kwargs: Any,
        ) -> Any:
            recording = self._recording(own_forward, input_ids, attention_mask)
            if recording is None:
                if position_ids is not None:
                    kwargs["position_ids"] = position_ids
                return own_forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
            hidden = recording(input_ids, attention_mask, position_ids)
            return BaseModelOutputWithPast(last_hidden_state=hidden)  # type: ignore[arg-type]

        backbone.forward = forward
        try:
            yield
        finally:
            backbone.forward = own_forward

    def _applies(self) -> bool:
        return (
            can_record(self.model.device)
            and not self.modules.is_checkpointed
            and self.model.config.get_text_config()._attn_implementation == "sdpa"
            and find_obstacle(self.model, 1) is None
        )

    def _recording(
        self, own_forward: Callable[..., Any], input_ids: Tensor, mask: Tensor
    ) -> _Recording | None:
        """For this shape in this state of the model; None where there is none, or none yet."""
        if mask.dim() == 2 and find_obstacle(self.model, input_ids.shape[1]) is not None:
            # A window shorter than the row, which is in the mask that the model makes itself.
            return None
        rows, width = input_ids.shape
        shape = (-(-rows // _ROWS) * _ROWS, -(-width // _WIDTH) * _WIDTH)
        state = self._state()
        if (found := self._fitting(rows, width, shape, state)) is not None:
            return found
        self._seen[shape, state] += 1
        if self._seen[shape, state] > 1 and self._room > 0:
            return self._record(own_forward, shape, state)
        return None

    def _fitting(
        self, rows: int, width: int, shape: tuple[int, int], state: object
    ) -> _Recording | None:
        """The smallest one that holds a batch and little else, or is of just this shape."""
        most = max(_MOST_PADDING * rows * width, shape[0] * shape[1])
        fitting = (
            one
            for one in self._recorded
            if one.state == state
            and one.rows >= rows
            and one.width >= width
            and one.rows * one.width <= most
        )
        return min(fitting, key=lambda one: one.rows * one.width, default=None)

    def _record(
        self, own_forward: Callable[..., Any], shape: tuple[int, int], state: object
    ) -> _Recording | None:
        pool = self._pools[torch.is_grad_enabled()]
        try:
            recording = _Recording(self.model, own_forward, shape, state, pool)
        except RuntimeError as error:
            say_once(f"Tuning's passes are not recorded, which is slower: {error}")
            self._room = 0
            return None
        self._recorded.append(recording)
        self._room -= 1
        return recording

    def _state(self) -> object:
        """What a pass does beside reading its rows."""
        device = self.model.device.type
        adapter = self._adapter
        return (
            torch.is_grad_enabled(),
            torch.is_autocast_enabled(device),
            self.model.training,
            None
            if adapter is None
            else (adapter.disable_adapters, adapter.merged, tuple(adapter.active_adapters)),
        )


class _Recording:
    """Passes over rows of one shape.

    Args:
        model: for what it is in now.
        own_forward: its backbone's.
        shape: ``r`` and ``w``, or more.
        state: of the model.
        pool: of memory.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        own_forward: Callable[..., Any],
        shape: tuple[int, int],
        state: object,
        pool: Pool,
    ) -> None:
        device = model.device
        self.rows, self.width = shape
        self.state = state
        self._own_forward, self._device = own_forward, device.type
        self._input_ids, self._positions = (
            torch.zeros(shape, dtype=torch.long, device=device) for _ in range(2)
        )
        self._itself = torch.eye(shape[1], dtype=torch.bool, device=device)
        self._mask = self._itself.expand(shape[0], 1, -1, -1).clone()
        self._gradients_wanted = torch.is_grad_enabled()
        self.parameters = [one for one in model.parameters() if one.requires_grad]
        self.hidden, self.of_hidden = torch.empty(0), torch.empty(0)
        self.gradients: tuple[Tensor | None, ...] = ()
        self.turn = 0
        warm_up(self._do_both, device)
        self.read = record(self._read, device, pool)
        self.learn = record(self._learn, device, pool) if self._gradients_wanted else None

    def __call__(self, input_ids: Tensor, mask: Tensor, positions: Tensor | None) -> Tensor:
        """The last hidden states ``[r, w, d]`` or more, of a `ScoringPlan` without branches."""
        rows, width = input_ids.shape
        self._input_ids[:rows, :width] = input_ids
        if positions is None:
            positions = torch.arange(width, device=input_ids.device)
        self._positions[:rows, :width] = positions
        # Padding sees itself, so that no row of the mask is empty.
        self._mask.copy_(self._itself)
        if mask.dim() == 2:
            # Of rows that are not packed, each one prompt (segment 0) and padding (-1).
            mask = visibility(mask.long() - 1)
        self._mask[:rows, :, :width, :width] |= mask
        hidden: Tensor = _Replayed.apply(self, *self.parameters)  # type: ignore[no-untyped-call]
        return hidden

    def _read(self) -> None:
        with (
            torch.set_grad_enabled(self._gradients_wanted),
            # A cast weight that autocast kept would be read again after it has changed.
            torch.autocast(
                self._device,
                dtype=torch.get_autocast_dtype(self._device),
                enabled=torch.is_autocast_enabled(self._device),
                cache_enabled=False,
            ),
        ):
            self.hidden = self._own_forward(
                input_ids=self._input_ids,
                attention_mask=self._mask,
                position_ids=self._positions,
                use_cache=False,
            ).last_hidden_state

    def _learn(self) -> None:
        self.gradients = torch.autograd.grad(
            self.hidden, self.parameters, self.of_hidden, allow_unused=True
        )

    def _do_both(self) -> None:
        self._read()
        if self._gradients_wanted:
            self.of_hidden = torch.zeros_like(self.hidden)
            self._learn()


class _Replayed(torch.autograd.Function):
    """A recording's forward and backward pass in the place of its work's own."""

    @staticmethod
    def forward(ctx: Any, recording: _Recording, *parameters: nn.Parameter) -> Tensor:
        recording.turn += 1
        ctx.recording, ctx.turn = recording, recording.turn
        recording.read()
        # The next pass writes over it.
        return recording.hidden.detach().clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        recording = ctx.recording
        if ctx.turn != recording.turn:
            raise RuntimeError("a recorded pass was read again before its gradients were taken")
        recording.of_hidden.copy_(gradient)
        recording.learn()
        return None, *(None if one is None else one.clone() for one in recording.gradients)
