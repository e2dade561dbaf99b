"""Training: the examples are those that coding meets, the loss is the code length, runs resume."""

import csv
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Photo
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from scipy.stats import logistic

from source_codec import Codec, ModelError, Process, export, training_data
from source_codec.calibration import fit_temperatures
from source_codec.denoiser import Denoiser, DenoiserShape, mixture_bits
from source_codec.export import export_checkpoint
from source_codec.logistic_mixture import code_length
from source_codec.model import Model, from_denoiser
from source_codec.reverse_coding import Context, Unit, input_units, steps_of
from source_codec.training import Trainer, TrainingConfig, load_config, validation_bpsp
from source_codec.training_data import (
    Batch,
    BatchStream,
    ImageStream,
    Source,
    concatenate,
    examples_at,
    load_images,
    masked_example,
)

SHAPE = DenoiserShape(width=16, blocks=1, head_width=8)


@pytest.fixture(scope="module")
def data(photo: Photo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of small training images: PNG files, and a stack."""
    root = tmp_path_factory.mktemp("data")
    (root / "photos").mkdir()
    for seed in range(4):
        Image.fromarray(photo(70, 80, 3, seed)).save(root / "photos" / f"{seed}.png")
    Image.fromarray(photo(50, 60, 1)).save(root / "photos" / "gray.png")
    (root / "stack").mkdir()
    np.save(root / "stack" / "images.npy", np.stack([photo(32, 32, 3, s) for s in range(10)]))
    return root


@pytest.fixture
def config(data: Path) -> TrainingConfig:
    return TrainingConfig(
        data_root=data,
        sources=(
            Source("photos", 1.0, exclude=("0.png",)),
            Source("photos", 1.0, "photo_ycc", factors=(1.0, 1.5)),
            Source("stack", 0.5, exclude=("0:2",)),
        ),
        validation=(Source("stack", 1.0, exclude=("2:10",)),),
        shape=SHAPE,
        minutes=0.01,
        batch=600,
        crop=48,
    )


# Configuration.

CONFIG = """
data_root = "../images"
minutes = 3
batch = 100
[shape]
width = 64
[[source]]
folder = "a"
weight = 2.0
transform = "reduced"
factors = [1.5, 2.0]
exclude = ["x.png"]
[[source]]
folder = "b"
weight = 1
[[validation]]
folder = "c"
weight = 1
"""


def test_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run" / "config.toml"
    path.parent.mkdir()
    path.write_text(CONFIG)
    assert load_config(path) == TrainingConfig(
        data_root=tmp_path / "images",
        sources=(Source("a", 2.0, "reduced", (1.5, 2.0), ("x.png",)), Source("b", 1)),
        validation=(Source("c", 1),),
        shape=DenoiserShape(width=64),
        minutes=3,
        batch=100,
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("minutes", "minuets", "minuets"),
        ('folder = "b"', 'folder = "b"\nsize = 3', "size"),
        ("weight = 2.0\n", "", "weight"),
        ("width = 64", "widht = 64", "widht"),
        ("[[validation]]", "[[something]]", "validation"),
        ("data_root", "root", "data_root"),
        ("minutes = 3", "minutes = ", "line 3"),
    ],
)
def test_wrong_configurations(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "config.toml"
    assert old in CONFIG
    path.write_text(CONFIG.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        load_config(path)
    assert "config.toml" in str(caught.value)


# Images.


def test_images_are_green_red_blue(data: Path) -> None:
    images = load_images(data / "photos", ())
    assert len(images) == 5
    stored = np.asarray(Image.open(data / "photos" / "2.png"))
    np.testing.assert_array_equal(images[2], stored[..., [1, 0, 2]])
    gray = images[4]
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    stack = np.load(data / "stack" / "images.npy")
    loaded = load_images(data / "stack", ("0:2", "5:9"))
    np.testing.assert_array_equal(loaded, stack[[2, 3, 4, 9]][..., [1, 0, 2]])


def test_excluded_files_are_left_out(data: Path) -> None:
    images = load_images(data / "photos", ("0.png", "gray.png"))
    assert len(images) == 3
    first = np.asarray(Image.open(data / "photos" / "1.png"))[..., [1, 0, 2]]
    np.testing.assert_array_equal(images[0], first)


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no images"):
        load_images(tmp_path, ())


def test_native_images_are_crops_of_the_files(data: Path) -> None:
    stream = ImageStream(data, Source("photos", 1.0), 24, np.random.default_rng(1))
    originals = load_images(data / "photos", ())
    pieces = set()
    for image in originals:
        windows = np.lib.stride_tricks.sliding_window_view(image, (24, 24), axis=(0, 1))
        pieces |= {
            windows[y, x].transpose(1, 2, 0).tobytes() for y, x in np.ndindex(windows.shape[:2])
        }
    for _ in range(20):
        crop = stream.draw()
        assert crop.shape == (24, 24, 3)
        turned = [crop, crop.transpose(1, 0, 2)]
        turned += [t[::-1] for t in turned]
        turned += [t[:, ::-1] for t in turned]
        assert any(t.tobytes() in pieces for t in turned)


@pytest.mark.parametrize("transform", ["reduced", "photo_ycc", "ycbcr_420"])
def test_transformed_images(data: Path, transform: str) -> None:
    source = Source("photos", 1.0, transform, (1.2, 2.0))
    stream = ImageStream(data, source, 40, np.random.default_rng(2))
    for _ in range(10):
        image = stream.draw()
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert 32 <= min(image.shape[:2]) <= max(image.shape[:2]) <= 40


# Masked examples.


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("size", [(30, 25), (70, 66)])
def test_masks_are_those_of_coding(
    photo: Photo, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], gray: bool
) -> None:
    """Every example is part of a step of the coder, with exactly the pixels known before it."""
    steps = {}
    known = np.zeros(size, dtype=np.uint8)
    for step in steps_of(Process(), *size):
        steps[known.tobytes()] = (set(zip(step.ys, step.xs, strict=True)), step.density)
        known[step.ys, step.xs] = 1
    image = photo(*size)
    seen = set()
    asked = []

    def record(
        image: NDArray[np.uint8],
        known: NDArray[np.uint8],
        ys: NDArray[np.intp],
        xs: NDArray[np.intp],
        density: int,
        gray: bool,
    ) -> Batch:
        asked.append((known.copy(), set(zip(ys, xs, strict=True)), density))
        return examples_at(image, known, ys, xs, density, gray)

    monkeypatch.setattr(training_data, "examples_at", record)
    rng = np.random.default_rng(3)
    for _ in range(60):
        batch = masked_example(image, 32, rng, 100, gray)
        known, pixels, density = asked[-1]
        expected, expected_density = steps[known.tobytes()]
        assert pixels <= expected
        assert len(pixels) == min(len(expected), 100) == len(batch.inputs)
        assert density == expected_density
        seen.add(known.tobytes())
    assert len(seen) > 12


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("size", [(30, 25), (70, 66)])
def test_examples_are_what_the_coder_sees(
    codec: Codec, photo: Photo, size: tuple[int, int], gray: bool
) -> None:
    """The network's answer to a training example is its answer while coding; so are the targets."""
    image = photo(*size)
    if gray:
        image = np.repeat(image[..., :1], 3, axis=2)
    context = Context(codec.model, np.zeros_like(image)[None], gray)
    for number, step in enumerate(steps_of(Process(steps=12), *size)):
        context.begin_step()
        if number in (0, 3, 7, 11):
            span = slice(0, min(len(step.ys), 200))
            evaluation = context.evaluate(step, [Unit(0, span, span)])
            batch = examples_at(
                image,
                context.known.copy(),
                step.ys[span].astype(np.intp),
                step.xs[span].astype(np.intp),
                step.density,
                gray,
            )
            neck = codec.model.network.trunk(batch.inputs.numpy())
            np.testing.assert_array_equal(neck, evaluation.neck)
            for c in range(2):
                values = image[step.ys[span], step.xs[span], c].astype(np.int32)
                units = input_units(values, evaluation.base[c], evaluation.exponent)
                rounded = torch.floor(batch.residual[:, c] + 0.5).clamp(-127, 127)
                np.testing.assert_array_equal(rounded, units)
        context.images[0, step.ys, step.xs] = image[step.ys, step.xs]
        context.end_step(step)


def test_targets(photo: Photo) -> None:
    """Bins are one gray level wide; the outermost are open; gray images count one channel."""
    image = photo(40, 40)
    image[::3] = 0
    image[1::3] = 255
    ys, xs = (a.ravel() for a in np.mgrid[10:30, 10:30])
    known = np.random.default_rng(4).integers(0, 2, (40, 40)).astype(np.uint8)
    batch = examples_at(image, known, ys, xs, 5, gray=False)
    true = image[ys, xs]
    lower, upper = batch.edges[..., 0].numpy(), batch.edges[..., 1].numpy()
    assert (lower[true == 0] == -1e6).all()
    assert (upper[true == 255] == 1e6).all()
    inner = (true > 0) & (true < 255)
    width = (upper - lower)[inner]
    # 16, 8, ... 1/4 input units, the same for a pixel's three channels.
    assert set(width.tolist()) <= {16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25}
    middle = ((upper + lower) / 2)[inner]
    np.testing.assert_allclose(middle, batch.residual.numpy()[inner], atol=1e-3)
    assert (batch.weight == 1).all()
    gray = examples_at(image, known, ys, xs, 5, gray=True)
    np.testing.assert_array_equal(gray.weight, np.tile([1.0, 0.0, 0.0], (400, 1)))


def test_batches_are_well_formed(config: TrainingConfig) -> None:
    stream = BatchStream(config.data_root, list(config.sources), 700, 48, np.random.default_rng(5))
    for batch in islice(stream, 3):
        assert batch.inputs.shape == (700, 672)
        assert batch.inputs.dtype == torch.int8
        for part, shape in ((batch.residual, (3,)), (batch.edges, (3, 2)), (batch.weight, (3,))):
            assert part.shape == (700, *shape)
            assert part.dtype == torch.float32
            assert bool(torch.isfinite(part).all())
        assert bool((batch.edges[..., 0] < batch.edges[..., 1]).all())
        assert set(batch.weight[:, 0].tolist()) == {1.0}
        assert set(batch.weight[:, 1].tolist()) <= {0.0, 1.0}
        parts = list(batch.split(300))
        assert [len(p.inputs) for p in parts] == [300, 300, 100]
        assert torch.equal(concatenate(parts).edges, batch.edges)


def test_errors_of_the_background_thread_arrive(config: TrainingConfig) -> None:
    source = replace(config.sources[1], factors=(1.0,))
    stream = BatchStream(config.data_root, [source], 10, 48, np.random.default_rng(6))
    with pytest.raises(ValueError, match="not enough values"):
        next(iter(stream))


# The loss.


def random_parameters(channel: int, rng: np.random.Generator, n: int = 200) -> torch.Tensor:
    parts = [
        rng.normal(size=(n, 5)),
        rng.normal(scale=0.5, size=(n, 5)),
        rng.normal(scale=1.5, size=(n, 5)),
        rng.normal(scale=0.5, size=(n, channel)),
    ]
    return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))


def random_bins(rng: np.random.Generator, n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    residual = rng.normal(scale=30, size=(n, 3)).astype(np.float32)
    middle = rng.normal(scale=20, size=n)
    edges = np.stack([middle - 2, middle + 2], axis=1)
    edges[:10, 0] = -1e6
    edges[10:20, 1] = 1e6
    return torch.from_numpy(residual), torch.from_numpy(edges.astype(np.float32))


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_loss_is_the_code_length_of_the_mixture(channel: int) -> None:
    """-log2 of the bin's mass, with a uniform distribution of weight 2^-12 mixed in."""
    rng = np.random.default_rng(7)
    parameters = random_parameters(channel, rng)
    residual, edges = random_bins(rng)
    p = parameters.numpy().astype(np.float64)
    coded = np.clip(np.rint(residual.numpy()), -127, 127)[:, :channel]
    centre = 32 * p[:, 5:10] + (p[:, 15:] * coded).sum(axis=1, keepdims=True)
    scale = 8 * 2.0 ** p[:, 10:15]
    cdf = logistic.cdf((edges.numpy()[:, None, :] - centre[..., None]) / scale[..., None])
    mass = (softmax(p[:, :5], axis=1) * (cdf[..., 1] - cdf[..., 0])).sum(axis=1)
    expected = -np.log2((1 - 2**-12) * mass + 2**-12 / 256)
    bits = mixture_bits(parameters, residual, edges)
    np.testing.assert_allclose(bits, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("channel", [0, 2])
def test_gradient_of_the_loss(channel: int) -> None:
    """The kernel's own derivative against torch's of the same formula in float64."""
    rng = np.random.default_rng(8)
    parameters = random_parameters(channel, rng)
    residual, edges = random_bins(rng)
    parameters.requires_grad_()
    mixture_bits(parameters, residual, edges).sum().backward()
    p = parameters.detach().double().requires_grad_()
    coded = residual.double().round().clamp(-127, 127)[:, :channel]
    centre = 32 * p[:, 5:10] + (p[:, 15:] * coded).sum(dim=1, keepdim=True)
    scale = 8 * torch.exp2(p[:, 10:15])
    cdf = torch.sigmoid((edges.double()[:, None, :] - centre[..., None]) / scale[..., None])
    mass = (torch.softmax(p[:, :5], dim=1) * (cdf[..., 1] - cdf[..., 0])).sum(dim=1)
    (-torch.log2((1 - 2**-12) * mass + 2**-12 / 256)).sum().backward()
    assert p.grad is not None
    np.testing.assert_allclose(parameters.grad, p.grad, rtol=2e-3, atol=2e-3)


def test_training_loss_predicts_the_coded_length(photo: Photo) -> None:
    """Bits per sub-pixel by the float network and by the exported tables agree within 1 %."""
    torch.manual_seed(1)
    denoiser = Denoiser(SHAPE)
    model = from_denoiser(denoiser)
    image = photo(60, 50)
    examples, coded = [], 0.0
    context = Context(model, np.zeros_like(image)[None], gray=False)
    for step in steps_of(Process(steps=8), 60, 50):
        context.begin_step()
        span = slice(0, len(step.ys))
        examples.append(
            examples_at(
                image,
                context.known.copy(),
                step.ys.astype(np.intp),
                step.xs.astype(np.intp),
                step.density,
                gray=False,
            )
        )
        evaluation = context.evaluate(step, [Unit(0, span, span)])
        residual = np.empty((len(step.ys), 2), dtype=np.int32)
        for c in range(3):
            values = image[step.ys, step.xs, c].astype(np.int32)
            coded += code_length(context.mixture(step, evaluation, c, residual), values)
            if c < 2:
                residual[:, c] = input_units(values, evaluation.base[c], evaluation.exponent)
        context.images[0, step.ys, step.xs] = image[step.ys, step.xs]
        context.end_step(step)
    predicted = validation_bpsp(denoiser, concatenate(examples))
    assert coded / image.size == pytest.approx(predicted, rel=0.01)


# Runs.


def test_a_run_logs_saves_and_resumes(config: TrainingConfig, tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    Trainer(config, tmp_path).run(rows.append)
    steps = int(rows[-1]["step"])
    assert steps >= 1
    assert rows[-1]["stack:native"] > 0
    assert (tmp_path / "checkpoint.pt").exists()

    # The time is used up: nothing more happens.
    again = Trainer(config, tmp_path)
    assert again.step == steps
    assert again.seconds >= 0.6
    again.run(rows.append)
    assert again.step == steps

    # With more time the same run goes on.
    longer = Trainer(replace(config, minutes=again.seconds / 60 + 0.01), tmp_path)
    for saved, loaded in zip(
        again.model.state_dict().values(), longer.model.state_dict().values(), strict=True
    ):
        assert torch.equal(saved, loaded)
    longer.run(rows.append)
    assert longer.step > steps
    with (tmp_path / "log.csv").open(newline="") as file:
        logged = list(csv.DictReader(file))
    assert [int(row["step"]) for row in logged] == [steps, longer.step]
    assert set(logged[0]) == {"step", "minutes", "bpsp", "stack:native"}
    assert float(logged[1]["minutes"]) > float(logged[0]["minutes"])


def test_training_learns(config: TrainingConfig, tmp_path: Path) -> None:
    """Thirty updates on one batch shorten its code."""
    trainer = Trainer(config, tmp_path)
    batches = BatchStream(config.data_root, list(config.sources), 600, 48, np.random.default_rng(9))
    batch = next(iter(batches))
    losses = [trainer._update(batch, 1.0) for _ in range(30)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.3
    # The first loss is the code length before any update.
    assert losses[0] < 9


def test_a_run_may_start_from_another(config: TrainingConfig, tmp_path: Path) -> None:
    first = Trainer(config, tmp_path / "first")
    first.average.stem.bias.data += 0.5
    first.step = 7
    first.save()
    start = str(tmp_path / "first" / "checkpoint.pt")
    second = Trainer(replace(config, start_from=start, seed=2), tmp_path / "second")
    assert second.step == 0
    assert torch.equal(second.model.stem.bias, first.average.stem.bias)
    assert torch.equal(second.average.stem.bias, first.average.stem.bias)


def test_a_run_may_start_from_the_default_model(config: TrainingConfig, tmp_path: Path) -> None:
    default = Model.load()
    settings = replace(config, start_from="default", shape=DenoiserShape(192, 2, 64))
    trainer = Trainer(settings, tmp_path / "run")
    # Rounding the weights again changes nothing: the same integers, so the same model.
    again = from_denoiser(trainer.average).network.layers()
    for layer, expected in zip(again, default.network.layers(), strict=True):
        np.testing.assert_array_equal(layer.weight, expected.weight)
        np.testing.assert_array_equal(layer.bias, expected.bias)
        np.testing.assert_array_equal(layer.shift, expected.shift)


def test_a_start_of_another_shape_is_refused(config: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="width=192"):
        Trainer(replace(config, start_from="default"), tmp_path / "run")


# From a checkpoint to a codec.


def test_export_of_a_checkpoint(
    config: TrainingConfig, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SMALL_IMAGES", 5)
    trainer = Trainer(config, tmp_path)
    trainer.save()
    model = export_checkpoint(trainer.checkpoint, config, tmp_path / "model.safetensors", "a note")
    assert model.notes == "a note"
    codec = Codec.load(tmp_path / "model.safetensors")
    assert codec.model.model_id == model.model_id
    image = photo(20, 22)
    np.testing.assert_array_equal(codec.decode(codec.encode(image)), image)
    # Only the small validation images were seen: the large class stays neutral.
    assert not model.temperature[0].any()


def test_calibration_shortens_the_code(photo: Photo) -> None:
    """Distributions made too narrow on purpose: calibration widens them again."""
    torch.manual_seed(2)
    denoiser = Denoiser(SHAPE)
    with torch.no_grad():
        for head in denoiser.heads:
            head.bias[10:15] -= 3  # octaves
    images = [photo(64, 60, 3, seed) for seed in range(3)]
    green_first = [np.ascontiguousarray(image[..., [1, 0, 2]]) for image in images]
    model = from_denoiser(denoiser)
    fitted = fit_temperatures(model, green_first, np.random.default_rng(10), share=1.0)

    def length(m: Model) -> int:
        return sum(map(len, Codec(m).encode_many(images)))

    assert length(fitted) < length(model)
    assert fitted.temperature[1].max() > 0
    assert not fitted.temperature[0].any()
    assert fitted.model_id != model.model_id
