"""Streams made earlier, on another machine, come back bit for bit; and are made again."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from source_codec import Codec

FOLDER = Path(__file__).parent / "golden"
DOCUMENT = json.loads((FOLDER / "golden.json").read_text())
STREAMS = sorted(FOLDER.glob("*.ddm"))
_SPEC = importlib.util.spec_from_file_location("golden_make", FOLDER / "make.py")
assert _SPEC is not None
assert _SPEC.loader is not None
make = importlib.util.module_from_spec(_SPEC)
sys.modules["golden_make"] = make
_SPEC.loader.exec_module(make)


def test_made_with_the_default_model(codec: Codec) -> None:
    """If not: run ``python tests/golden/make.py``."""
    assert DOCUMENT["model_id"] == codec.model.model_id.hex()
    assert {path.stem for path in STREAMS} == set(DOCUMENT["sha256"]) == set(make.goldens())
    assert sum(path.stat().st_size for path in STREAMS) < 16_000


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_decoded_bit_for_bit(codec: Codec, path: Path) -> None:
    image = codec.decode(path.read_bytes())
    assert make.sha256(image) == DOCUMENT["sha256"][path.stem]


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_encoded_again(codec: Codec, path: Path) -> None:
    """From the decoded pixels, which do not depend on the library that drew them."""
    golden = make.goldens()[path.stem]
    image = codec.decode(path.read_bytes())
    stream = codec.encode(image, golden.process, histories=golden.histories)
    assert stream == path.read_bytes()


def test_decoded_together(codec: Codec) -> None:
    """All in one call, in which streams of one image size share a batch."""
    streams = [path.read_bytes() for path in STREAMS]
    images = codec.decode_many(streams + streams[::-1])
    hashes = [make.sha256(np.ascontiguousarray(image)) for image in images]
    expected = [DOCUMENT["sha256"][path.stem] for path in STREAMS]
    assert hashes == expected + expected[::-1]
