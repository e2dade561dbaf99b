"""The model: integer network, probability tables and calibration, as one small file.

The file is safetensors with integer tensors only. Its identity, which every ``.ddm`` stream
carries, is a hash over all of them: names, types, shapes and bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from source_codec.adaptation import DELAY, Adaptation, near_inputs
from source_codec.errors import ModelError
from source_codec.experts import PHASES, Kind, Phase, expert_of
from source_codec.features import Features, features_at
from source_codec.integer_network import IntegerLayer, IntegerNetwork
from source_codec.kernel_loading import postpone_blas
from source_codec.logistic_mixture import (
    MAX_TEMPERATURE,
    MixtureTables,
    intervals,
    mixture,
)
from source_codec.network_shape import head_outputs
from source_codec.order import Order, rank_map
from source_codec.window import N_DENSITIES

FORMAT = "ddm-model-4"
MODEL_ID_BYTES = 8
_GOLDEN_SIDE = 54
_GOLDEN_RANK = 780  # leaves about 280 pixels: the network's full batch and a partial one


@dataclass(frozen=True)
class Model:
    """Everything that the probability tables depend on.

    Attributes:
        experts: the denoisers in integers, in the order of :data:`source_codec.experts.PHASES`.
        tables: logistic, exponential and scale tables.
        temperature: int8 (3, 8, 3), calibration in 1/16 octave by kind of step, density class (how
            much of the image is known) and channel.
        notes: free text of the file (training configuration).
    """

    experts: tuple[IntegerNetwork, ...]
    tables: MixtureTables
    temperature: NDArray[np.int8]
    notes: str = ""

    def __post_init__(self) -> None:
        if len(self.experts) != len(PHASES):
            raise ModelError(f"a model has {len(PHASES)} experts, not {len(self.experts)}")
        for phase, network in zip(PHASES, self.experts, strict=True):
            if network.window is not phase.window:
                raise ModelError(f"expert {phase.name} sees another window than its steps have")
        if self.temperature.dtype != np.int8 or self.temperature.shape != (
            len(Kind),
            N_DENSITIES,
            3,
        ):
            raise ModelError("temperature table of wrong type or shape")
        if np.abs(self.temperature.astype(int)).max() > MAX_TEMPERATURE:
            raise ModelError("temperature out of range")

    def expert(self, density: int, kind: Kind) -> IntegerNetwork:
        """The network for a step of this density class and kind."""
        return self.experts[expert_of(density, kind)]

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """All tensors by name, as stored."""
        result: dict[str, NDArray[np.generic]] = {}
        for phase, network in zip(PHASES, self.experts, strict=True):
            for name, layer in _named_layers(network).items():
                result[f"{phase.name}.{name}.weight"] = layer.weight
                result[f"{phase.name}.{name}.bias"] = layer.bias
                result[f"{phase.name}.{name}.shift"] = layer.shift
        for name in ("logistic", "exponential", "inverse_scale", "temperature"):
            result[f"table.{name}"] = getattr(self.tables, name)
        result["calibration.temperature"] = self.temperature
        return result

    @cached_property
    def model_id(self) -> bytes:
        """Hash of all tensors, 8 bytes."""
        digest = hashlib.blake2b(digest_size=MODEL_ID_BYTES)
        tensors = self.tensors()
        for name in sorted(tensors):
            tensor = tensors[name]
            digest.update(f"{name}:{tensor.dtype.str}:{tensor.shape}:".encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.digest()

    @cached_property
    def golden(self) -> str:
        """Hash of features, network outputs and tables at fixed pixels, for the self-test."""
        ramp = np.arange(_GOLDEN_SIDE * _GOLDEN_SIDE * 3, dtype=np.int64)
        noise = (ramp * ramp // 7 + 31 * ramp) % 97 + ramp // 90
        image = noise.astype(np.uint8).reshape(_GOLDEN_SIDE, _GOLDEN_SIDE, 3)
        ranks, _ = rank_map(Order.HALTON, _GOLDEN_SIDE, _GOLDEN_SIDE)
        known = (ranks < _GOLDEN_RANK).astype(np.uint8)
        ys, xs = np.nonzero(1 - known)
        digest = hashlib.blake2b(digest_size=16)
        residual = (image[ys, xs, :2].astype(np.int32) - 48) * 2
        values = image[ys, xs, 2].astype(np.int32)
        gray = np.repeat(image[..., :1], 3, axis=-1)
        for network in self.experts:
            window = network.window
            inputs, base, exponent = features_at(window, image, known, ys, xs, 5, gray=False)
            digest.update(inputs.tobytes())
            few = features_at(window, image, known, ys[::97], xs[::97], 5, gray=False)
            digest.update(few.inputs.tobytes())
            neck = network.trunk(inputs)
            digest.update(neck.tobytes())
            for c in range(3):
                coded = np.ascontiguousarray(residual[:, :c])
                parameters = network.head(c, neck, coded)
                one = mixture(parameters, base[:, c].copy(), exponent, coded, 3 * c, self.tables)
                for array in (parameters[:, : head_outputs(c)], *intervals(one, values)):
                    digest.update(array.tobytes())
            of_gray = features_at(window, gray, known, ys, xs, 5, gray=True)
            digest.update(network.trunk(of_gray.inputs, gray=True).tobytes())
        dense = self.expert(N_DENSITIES - 1, Kind.LARGE)
        features = features_at(dense.window, image, known, ys, xs, 5, gray=False)
        digest.update(self._adapted(dense, features, image[ys, xs]))
        return digest.hexdigest()

    def _adapted(
        self, network: IntegerNetwork, features: Features, pixels: NDArray[np.uint8]
    ) -> bytes:
        """Parameters of the green channel after two blocks of learning, for the self-test."""
        inputs, base, exponent = features
        key, no_residual = (0, 0), np.empty((len(inputs), 0), np.int32)
        hidden = network.hidden(0, network.trunk(inputs), no_residual)
        near = near_inputs(inputs, network.window, gray=False)
        green = pixels[:, 0].astype(np.int32)
        adaptation = Adaptation()
        for block in range(DELAY + 2):
            parameters, seen = adaptation.parameters(block, key, network.heads[0], hidden, near)
            m = mixture(parameters, base[:, 0].copy(), exponent, no_residual, 0, self.tables)
            sharpness = self.tables.sharpness(0)
            lesson = adaptation.observe(key, seen, m, green, no_residual, exponent, sharpness)
            adaptation.learn(block, [lesson])
        return parameters[:, : head_outputs(0)].tobytes()

    def save(self, path: Path) -> None:
        """Writes the model file."""
        metadata = {"format": FORMAT, "golden": self.golden, "notes": self.notes}
        tensors = {name: np.ascontiguousarray(t) for name, t in self.tensors().items()}
        path.write_bytes(save(tensors, metadata))

    @classmethod
    def load(cls, source: str | Path = "default") -> Model:
        """Reads a model file and tests it on this machine.

        Args:
            source: a path, or the name of a model that comes with the package.

        Raises:
            ModelError: not a model file, inconsistent, or the self-test fails on this machine.
        """
        path = Path(source)
        if path.suffix != ".safetensors":
            path = Path(str(resources.files("source_codec") / "models" / f"{source}.safetensors"))
        if not path.is_file():
            raise ModelError(f"no model file {path}")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is not a model file: {error}") from error
        if metadata.get("format") != FORMAT:
            raise ModelError(f"{path}: format {metadata.get('format')!r}, expected {FORMAT!r}")
        try:
            model = cls._from_tensors(tensors, metadata.get("notes", ""))
        except KeyError as error:
            raise ModelError(f"{path}: missing tensor {error}") from error
        except (ValueError, TypeError) as error:
            raise ModelError(f"{path}: malformed tensor: {error}") from error
        postpone_blas()
        if model.golden != metadata.get("golden"):
            raise ModelError(
                f"{path}: self-test failed: damaged file, or this machine does not compute exactly"
            )
        return model

    @classmethod
    def _from_tensors(cls, tensors: dict[str, NDArray[Any]], notes: str) -> Model:
        def layer(name: str) -> IntegerLayer:
            return IntegerLayer(
                tensors[f"{name}.weight"], tensors[f"{name}.bias"], tensors[f"{name}.shift"]
            )

        def network(phase: Phase) -> IntegerNetwork:
            expert = phase.name
            firsts = [n for n in tensors if n.startswith(expert) and n.endswith(".first.weight")]
            blocks = [f"{expert}.block{b}" for b in range(len(firsts))]
            return IntegerNetwork(
                window=phase.window,
                stem=layer(f"{expert}.stem"),
                blocks=tuple((layer(f"{b}.first"), layer(f"{b}.second")) for b in blocks),
                neck=layer(f"{expert}.neck"),
                colour=(layer(f"{expert}.colour1"), layer(f"{expert}.colour2")),
                heads=tuple(layer(f"{expert}.head{c}") for c in range(3)),
            )

        tables = MixtureTables(
            **{
                name: tensors[f"table.{name}"]
                for name in ("logistic", "exponential", "inverse_scale", "temperature")
            }
        )
        experts = tuple(network(phase) for phase in PHASES)
        return cls(experts, tables, tensors["calibration.temperature"], notes)


def _named_layers(network: IntegerNetwork) -> dict[str, IntegerLayer]:
    layers = {"stem": network.stem, "neck": network.neck}
    for b, (first, second) in enumerate(network.blocks):
        layers[f"block{b}.first"], layers[f"block{b}.second"] = first, second
    layers |= {f"colour{c + 1}": layer for c, layer in enumerate(network.colour)}
    return layers | {f"head{c}": layer for c, layer in enumerate(network.heads)}
