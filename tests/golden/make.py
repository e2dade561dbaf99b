"""Makes the golden streams again, after a change of the default model or of the format.

    python tests/golden/make.py

``tests/test_golden.py`` decodes them, on whatever machine it runs, and compares the pixels' SHA-256
with those in ``golden.json``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from conftest import synthetic_photo  # noqa: E402

from source_codec import Codec, Order, Process, Schedule  # noqa: E402

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Golden:
    """An image, and how it is coded."""

    image: Pixels
    process: Process = Process()  # noqa: RUF009 (frozen)
    histories: bool = False


def ramp(height: int, width: int) -> Pixels:
    """A structure that the model learns while it codes it: a short stream of a large image."""
    y, x = np.mgrid[0:height, 0:width]
    wave = (x + y) // 2
    return np.stack([wave, wave + 8, 250 - wave], axis=-1).astype(np.uint8)


def drawing(height: int, width: int) -> Pixels:
    """A disc and bars of flat colours, with edges that mix them."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.full((height, width, 3), 255, dtype=np.int64)
    cover = np.clip(900 - (y - height // 2) ** 2 - (x - width // 3) ** 2 + 32, 0, 64)
    image += (np.array([20, 90, 200]) - image) * cover[..., None] // 64
    image[5 : height - 5, width // 2 :: 7] = 190, 30, 40
    image[height - 9 :: 4] = 0
    return image.astype(np.uint8)


def goldens() -> dict[str, Golden]:
    """Images of each kind by name."""
    noise = np.random.default_rng(11).integers(0, 256, (21, 23, 3)).astype(np.uint8)
    return {
        "gray": Golden(synthetic_photo(45, 37, 1)),
        "rgb-32x32": Golden(synthetic_photo(32, 32)),
        "odd-adaptive": Golden(synthetic_photo(67, 83, 1)),
        "odd-fixed": Golden(
            synthetic_photo(13, 59), Process(Order.CHECKERBOARD, Schedule.LINEAR, 5, adaptive=False)
        ),
        "learned-ramp": Golden(ramp(71, 89)),
        "noise": Golden(noise),
        "extremes": Golden(np.where(noise < 128, 0, 255).astype(np.uint8)),
        "pixel": Golden(synthetic_photo(1, 1)),
        "row": Golden(synthetic_photo(1, 97)),
        "drawing": Golden(drawing(75, 101)),
        "drawing-gray": Golden(drawing(40, 60)[..., 0].copy()),
        "composed": Golden(np.repeat(synthetic_photo(40, 36, 1)[..., None], 3, 2), histories=True),
    }


def sha256(image: Pixels) -> str:
    """Of shape and pixels."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def main() -> None:
    """Writes a stream per image, and golden.json."""
    codec = Codec.load()
    for old in FOLDER.glob("*.ddm"):
        old.unlink()
    hashes, total = {}, 0
    for name, golden in goldens().items():
        stream = codec.encode(golden.image, golden.process, histories=golden.histories)
        (FOLDER / f"{name}.ddm").write_bytes(stream)
        hashes[name] = sha256(golden.image)
        total += len(stream)
        print(f"{name}: {len(stream)} bytes")
    document = {"model_id": codec.model.model_id.hex(), "sha256": hashes}
    (FOLDER / "golden.json").write_text(json.dumps(document, indent=2) + "\n")
    print(f"{total} bytes in all, model {codec.model.model_id.hex()}")


if __name__ == "__main__":
    main()
