"""``sscc info``: what a ``.ddm`` file says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from source_codec import Codec, Header, Order, Schedule, read_header
from source_codec.layout import PLAIN
from source_codec.order import is_wavefront
from source_codec.process import steps_of


def describe(path: Path, codec: Codec | None) -> dict[str, Any]:
    """The header's fields, and with a codec the bits of every denoising step.

    Raises:
        CorruptStream: not a ``.ddm`` file, a damaged one, or one of another model.
    """
    data = path.read_bytes()
    header = read_header(data)
    description = {
        "name": path.name,
        "bytes": len(data),
        "version": header.version,
        "width": header.width,
        "height": header.height,
        "channels": header.channels,
        "depth": header.depth,
        "bpsp": 8 * len(data) / (header.width * header.height * header.channels),
        **_process(header),
        "history": header.layout.describe_history(),
        "composition": header.layout.describe_composition(),
        "coding": header.layout.describe_coding(),
        "model_id": header.model_id.hex(),
        "header_bytes": header.header_bytes,
        "payload_bytes": header.payload_bytes,
    }
    if codec is not None:
        description["step_bits"] = codec.step_bits(data)
    return description


def _process(header: Header) -> dict[str, Any]:
    """The denoising process, as it is for parts of these sizes."""
    process = header.process
    leaves = [leaf for leaf in header.layout.leaves() if leaf.kind == PLAIN]
    sizes = [(leaf.shape.height, leaf.shape.width) for leaf in leaves]
    if sizes and all(is_wavefront(process.order, *size) for size in sizes):
        return {
            "order": "wavefront",
            "schedule": Schedule.LINEAR.value,
            "steps": max(len(list(steps_of(process, *size))) for size in sizes),
            "adaptive": False,
        }
    order = Order.HALTON if process.order is Order.AUTO else process.order
    return {
        "order": order.value,
        "schedule": process.schedule.value,
        "steps": process.steps,
        "adaptive": process.adaptive,
    }


def description_lines(description: dict[str, Any]) -> list[str]:
    """The description for people: a line per field, then a line per step with its share."""
    fields = {key: value for key, value in description.items() if key != "step_bits"}
    width = max(map(len, fields))
    lines = [
        f"{key:{width}}  {f'{value:.3f}' if isinstance(value, float) else value}"
        for key, value in fields.items()
    ]
    bits = description.get("step_bits")
    if bits:
        lines += ["", "step        bits   share"]
        lines += [
            f"{step:4}  {count:10,.0f}  {count / max(sum(bits), 1):6.1%}"
            for step, count in enumerate(bits, 1)
        ]
    return lines
