"""Steps overlap: a block is evaluated while the step before it is still being coded elsewhere.

Whatever the threads do, the network must see what a coder would that takes one step at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import pytest
from conftest import Photo
from numpy.typing import NDArray

from source_codec import Codec
from source_codec.process import Process, Step, steps_of
from source_codec.reverse_coding import (
    Block,
    Context,
    Evaluation,
    Evaluations,
    decode_images,
    encode_steps,
)
from source_codec.workers import Result, Task, Workers

EVALUATE = Context.evaluate
# Steps of many blocks, each of few rows.
SIZE = (700, 90)
PROCESS = Process(steps=4)


@pytest.fixture(scope="module")
def image(photo: Photo) -> NDArray[np.uint8]:
    return photo(*SIZE)


class Earliest(Workers):
    """All that can be done is done, before the first result is taken."""

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task | None]
    ) -> Iterator[Result]:
        results: deque[Result] = deque()
        for task in tasks:
            if task is None:
                yield results.popleft()
            else:
                results.append(function(task))
        yield from results


class Latest(Workers):
    """Tasks are taken as early, but done only when their results are asked for."""

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task | None]
    ) -> Iterator[Result]:
        calls = (None if task is None else partial(function, task) for task in tasks)
        for call in Earliest(1).map(lambda call: call, calls):
            yield call()


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Step, Block, Evaluation]]:
    """What is evaluated from now on."""
    seen: list[tuple[Step, Block, Evaluation]] = []

    def recorded(context: Context, step: Step, block: Block) -> Evaluation:
        result = EVALUATE(context, step, block)
        seen.append((step, block, result))
        return result

    monkeypatch.setattr(Context, "evaluate", recorded)
    return seen


def assert_as_step_by_step(
    codec: Codec,
    image: NDArray[np.uint8],
    gray: bool,
    evaluated: list[tuple[Step, Block, Evaluation]],
) -> None:
    """Everything evaluated, against a context that takes in whole steps."""
    context = Context(codec.model, np.zeros((1, *SIZE, 3), dtype=np.uint8), gray, adaptive=True)
    checked = 0
    for step in steps_of(PROCESS, *SIZE):
        for seen, block, evaluation in evaluated:
            if not np.array_equal(seen.ys, step.ys) or not np.array_equal(seen.xs, step.xs):
                continue
            expected = EVALUATE(context, step, block)
            for part in ("neck", "near", "base", "exponent"):
                np.testing.assert_array_equal(getattr(evaluation, part), getattr(expected, part))
            checked += len(block.ys)
        context.images[0, step.ys, step.xs] = image[step.ys, step.xs]
        context.end_step(step)
    assert checked == SIZE[0] * SIZE[1]


@pytest.mark.parametrize("workers", [Earliest(1), Latest(1), Workers(1), Workers(4)])
@pytest.mark.parametrize("gray", [False, True])
def test_blocks_are_seen_as_if_steps_came_one_by_one(
    codec: Codec,
    image: NDArray[np.uint8],
    evaluated: list[tuple[Step, Block, Evaluation]],
    gray: bool,
    workers: Workers,
) -> None:
    """By the encoder and by the decoder, both of which give the same image."""
    if gray:
        image = np.repeat(image[..., :1], 3, axis=2)
    *_, (_, coders) = encode_steps(codec.model, image[None], gray, PROCESS, workers)
    assert_as_step_by_step(codec, image, gray, evaluated)
    evaluated.clear()
    payload = coders.finished(0)
    *_, context = decode_images(codec.model, [payload], *SIZE, gray, PROCESS, workers)
    np.testing.assert_array_equal(context.images[0], image)
    assert_as_step_by_step(codec, image, gray, evaluated)


def test_steps_do_overlap(codec: Codec, image: NDArray[np.uint8]) -> None:
    """Some evaluation of each step but the first is asked for before the last step is complete."""
    context = Context(codec.model, image[None].copy(), gray=False)
    steps = list(steps_of(PROCESS, *SIZE))
    evaluations = Evaluations(context, steps, Workers(2))
    early = set()
    for step, _, _ in evaluations:
        early |= {id(begun.step) for begun in evaluations._begun if begun.step is not step}
        evaluations.restored()
    assert early == {id(step) for step in steps[1:]}
