"""Merges the calls that come while another one is computed, or shortly after it."""

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
    """How much is merged, and how much may wait."""

    rows: int = 128  # at most, of a batch that is merged
    delay: float = 0.0  # seconds that a batch waits for more
    waiting: int = 8192  # rows; a call that makes it more is refused


class _Call(NamedTuple):
    inputs: Tensors
    rows: int
    answer: asyncio.Future


class Batcher:
    """Calls a function of rows with the rows of several calls; gives each its own back.

    One batch is computed at a time: what comes meanwhile is the next one. A call of
    more rows than are merged is a batch of its own. A batch in which one call's rows
    are refused is computed again, call by call.
    """

    def __init__(
        self,
        function: Function,
        executor: concurrent.futures.Executor,
        *,
        limits: Limits,
        refused: type[Exception],
    ):
        """Makes one for an event loop.

        Args:
          function: of [B, ...] tensors, giving [B, ...] tensors; called in `executor`.
          executor: with its threads.
          limits: see there.
          refused: what the function raises for rows that it does not take.
        """
        self._function = function
        self._executor = executor
        self._limits = limits
        self._refused = refused
        self._waiting: collections.deque[_Call] = collections.deque()
        self._more = asyncio.Event()
        self._worker: asyncio.Task | None = None

    async def __call__(self, inputs: Tensors) -> Tensors:
        """Returns what the function makes of these rows.

        Raises:
          RequestError: too many rows wait already.
        """
        rows = len(next(iter(inputs.values())))
        waiting = self._rows_waiting()
        if waiting and waiting + rows > self._limits.waiting:
            raise RequestError(
                503, f"{waiting} rows are waiting already: try again in a moment"
            )
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(inputs, rows, answer))
        self._more.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await answer

    def _rows_waiting(self) -> int:
        return sum(call.rows for call in self._waiting)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            if self._limits.delay:
                await self._wait_for_more(loop.time() + self._limits.delay)
            calls = self._next_batch()
            answers = await loop.run_in_executor(self._executor, self._compute, calls)
            for call, answer in zip(calls, answers):
                if call.answer.done():  # nobody waits for it any more
                    continue
                if isinstance(answer, Exception):
                    call.answer.set_exception(answer)
                else:
                    call.answer.set_result(answer)
        self._worker = None

    async def _wait_for_more(self, deadline: float) -> None:
        while self._rows_waiting() < self._limits.rows:
            self._more.clear()
            left = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._more.wait(), left)
            except asyncio.TimeoutError:
                return

    def _next_batch(self) -> list[_Call]:
        calls = [self._waiting.popleft()]
        rows = calls[0].rows
        while self._waiting and rows + self._waiting[0].rows <= self._limits.rows:
            calls.append(self._waiting.popleft())
            rows += calls[-1].rows
        return calls

    def _compute(self, calls: list[_Call]) -> list[Tensors | Exception]:
        """Returns the answer to each call, or what was raised; never raises."""
        try:
            return self._merged(calls)
        except self._refused as error:
            if len(calls) == 1:
                return [error]
            return [self._compute([call])[0] for call in calls]
        except Exception as error:  # whatever it is, whoever waits must hear of it
            return [error] * len(calls)

    def _merged(self, calls: list[_Call]) -> list[Tensors | Exception]:
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
