"""The Python examples of the README and of the page on radios run."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def test_examples_run() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(examples) == 2
    names: dict[str, object] = {}
    for example in examples:  # the second one sends the first one's stream
        exec(example, names)


def test_a_radio_hears_itself() -> None:
    page = (Path(__file__).parents[1] / "docs" / "radio.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    samples = np.ones(5000, np.complex64)
    assert names["sink"].write(samples, 1.0) == 5000
    received = names["source"].read(1.0)
    assert received.size > 0
    assert abs(received[100]) == pytest.approx(10 ** (-12 / 20), abs=0.03)  # each of I, Q: 15 dB
