"""The README's Python examples run."""

import re
from pathlib import Path


def test_examples_run() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(examples) == 2
    names: dict[str, object] = {}
    for example in examples:  # the second one sends the first one's stream
        exec(example, names)
