"""The batching of requests, with functions of NumPy."""

import asyncio
import concurrent.futures
import threading

import numpy as np
import pytest

from pipeline.serving.batching import Batcher, Limits
from pipeline.serving.protocol import RequestError


class Doubler:
    """Doubles rows, refuses negative rows, and records the sizes of its batches."""

    def __init__(self):
        self.sizes = []
        self.may_continue = threading.Event()

    def __call__(self, inputs):
        assert self.may_continue.wait(10)
        self.sizes.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        if (inputs["x"] == 99).any():
            raise RuntimeError("broken")
        return {"twice": inputs["x"] * 2, "same": inputs["y"]}


def run(limits, calls, function=None):
    """Makes the first call, and the other calls while the first is computed.

    Returns the sizes of the batches, and the result of each call.
    """
    function = function or Doubler()

    async def all_calls():
        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            batcher = Batcher(function, executor, limits=limits, refused=ValueError)
            inputs = [{"x": np.array(x), "y": np.array(x) + 0.5} for x in calls]
            tasks = [asyncio.create_task(batcher(inputs[0]))]
            await asyncio.sleep(0.02)
            tasks += [asyncio.create_task(batcher(each)) for each in inputs[1:]]
            await asyncio.sleep(0.02)
            function.may_continue.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    return function.sizes, asyncio.run(all_calls())


def test_each_gets_its_own_rows_back():
    calls = [[0.0], [1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]
    sizes, answers = run(Limits(rows=100), calls)
    # The first call is computed at once; the others arrived meanwhile.
    assert sizes == [1, 6]
    for call, answer in zip(calls, answers):
        np.testing.assert_array_equal(answer["twice"], np.array(call) * 2)
        np.testing.assert_array_equal(answer["same"], np.array(call) + 0.5)


def test_no_batch_is_larger_than_the_limit():
    sizes, _ = run(Limits(rows=3), [[0.0], [1.0], [1.0, 2.0], [1.0] * 3, [1.0] * 7])
    assert sizes == [1, 3, 3, 7]  # the last batch is that of one call


def test_one_at_a_time_without_batching():
    sizes, _ = run(Limits(rows=1), [[0.0]] * 4)
    assert sizes == [1, 1, 1, 1]


def test_a_delay_collects_the_first_ones_too():
    sizes, _ = run(Limits(rows=100, delay=0.3), [[0.0]] * 4)
    assert sizes == [4]
    # a full batch does not wait
    sizes, _ = run(Limits(rows=4, delay=60.0), [[0.0]] * 4)
    assert sizes == [4]


def test_a_bad_call_does_not_affect_other_calls():
    sizes, answers = run(Limits(rows=100), [[0.0], [1.0], [-1.0], [2.0]])
    assert sizes == [1, 3, 1, 1, 1]
    assert isinstance(answers[2], ValueError)
    assert [answers[i]["twice"].item() for i in (0, 1, 3)] == [0, 2, 4]


def test_an_error_reaches_all_that_wait_and_ends_nothing():
    function = Doubler()
    _, answers = run(Limits(rows=2), [[0.0], [99.0], [1.0], [2.0], [3.0]], function)
    assert [type(answer) for answer in answers] == [
        *(dict, RuntimeError, RuntimeError),
        *(dict, dict),
    ]


def test_too_many_rows_are_refused():
    _, answers = run(Limits(rows=2, waiting=3), [[0.0], [1.0], [2.0], [3.0], [4.0]])
    refused = answers[4:]
    assert not any(isinstance(answer, RequestError) for answer in answers[:4])
    assert all(isinstance(answer, RequestError) for answer in refused)
    assert {answer.status for answer in refused} == {503}
    text = "3 rows are in the queue already: try again in a moment"
    assert {str(answer) for answer in refused} == {text}


def test_a_cancelled_call_does_not_affect_other_calls():
    function = Doubler()

    async def give_up():
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            batcher = Batcher(function, executor, limits=Limits(), refused=ValueError)
            inputs = {"x": np.ones(1), "y": np.ones(1)}
            first = asyncio.create_task(batcher(inputs))
            second = asyncio.create_task(batcher(inputs))
            await asyncio.sleep(0.02)
            first.cancel()
            function.may_continue.set()
            answer = await second
            with pytest.raises(asyncio.CancelledError):
                await first
            return answer

    assert asyncio.run(give_up())["twice"] == 2
