"""The batching of requests: calls that arrive close together become one batch."""

import asyncio
import collections
import concurrent.futures
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from pipeline.serving.protocol import RequestError

Tensors = dict[str, np.ndarray]
Function = Callable[[Tensors], Tensors]


class Limits(NamedTuple):
    """The limits of batches and of the queue."""

    rows: int = 128  # the largest number of rows of a merged batch
    delay: float = 0.0  # seconds that a batch waits for more calls
    waiting: int = 8192  # rows in the queue; a call that exceeds it is refused


class _Call(NamedTuple):
    inputs: Tensors
    rows: int
    answer: asyncio.Future


class Batcher:
    """Merges several calls of a function of rows into batches, and splits the results.

    One batch is computed at a time. The calls that arrive meanwhile become the next
    batch. A call with more rows than `limits.rows` is a batch by itself. A merged batch
    that the function refuses is computed again call by call, so that only the call
    with bad rows fails.
    """

    def __init__(
        self,
        function: Function,
        executor: concurrent.futures.Executor,
        *,
        limits: Limits,
        refused: type[Exception],
    ):
        """Initializes the batcher, which must be used in one event loop.

        Args:
          function: maps tensors [B, ...] by name to tensors [B, ...] by name.
          executor: the threads in which the function is called.
          limits: the limits of batches and of the queue.
          refused: the type of exception that the function raises for bad rows.
        """
        self._function = function
        self._executor = executor
        self._limits = limits
        self._refused = refused
        self._waiting: collections.deque[_Call] = collections.deque()
        self._more = asyncio.Event()
        self._worker: asyncio.Task | None = None

    async def __call__(self, inputs: Tensors) -> Tensors:
        """Returns the function's outputs for these rows.

        Raises:
          RequestError: too many rows are in the queue.
        """
        rows = len(next(iter(inputs.values())))
        waiting = self._count_waiting_rows()
        if waiting and waiting + rows > self._limits.waiting:
            raise RequestError(
                503, f"{waiting} rows are in the queue already: try again in a moment"
            )
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(inputs, rows, answer))
        self._more.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._compute_until_empty())
        return await answer

    def _count_waiting_rows(self) -> int:
        return sum(call.rows for call in self._waiting)

    async def _compute_until_empty(self) -> None:
        """Computes batches until the queue is empty."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            if self._limits.delay:
                await self._wait_for_more(loop.time() + self._limits.delay)
            calls = self._take_batch()
            answers = await loop.run_in_executor(self._executor, self._compute, calls)
            for call, answer in zip(calls, answers):
                if call.answer.done():  # the request was cancelled
                    continue
                if isinstance(answer, Exception):
                    call.answer.set_exception(answer)
                else:
                    call.answer.set_result(answer)
        self._worker = None

    async def _wait_for_more(self, deadline: float) -> None:
        """Waits until the queue has a full batch or the loop's time is `deadline`."""
        while self._count_waiting_rows() < self._limits.rows:
            self._more.clear()
            left = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._more.wait(), left)
            except asyncio.TimeoutError:
                return

    def _take_batch(self) -> list[_Call]:
        """Removes the calls of the next batch from the queue, and returns them."""
        calls = [self._waiting.popleft()]
        rows = calls[0].rows
        while self._waiting and rows + self._waiting[0].rows <= self._limits.rows:
            calls.append(self._waiting.popleft())
            rows += calls[-1].rows
        return calls

    def _compute(self, calls: list[_Call]) -> list[Tensors | Exception]:
        """Returns the outputs or the exception of each call; raises nothing."""
        try:
            return self._compute_merged(calls)
        except self._refused as error:
            if len(calls) == 1:
                return [error]
            return [self._compute([call])[0] for call in calls]
        except Exception as error:  # the callers wait for an answer
            return [error] * len(calls)

    def _compute_merged(self, calls: list[_Call]) -> list[Tensors | Exception]:
        """Calls the function once with all calls' rows; returns each call's outputs."""
        if len(calls) == 1:
            return [self._function(calls[0].inputs)]
        names = calls[0].inputs
        merged = {
            name: np.concatenate([call.inputs[name] for call in calls])
            for name in names
        }
        outputs = self._function(merged)
        ends = np.cumsum([call.rows for call in calls])[:-1]
        parts: Mapping[str, list[np.ndarray]] = {
            name: np.split(outputs[name], ends) for name in outputs
        }
        return [
            {name: parts[name][index] for name in parts} for index in range(len(calls))
        ]
