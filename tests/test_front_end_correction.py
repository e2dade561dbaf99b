"""DC and mirror image taken out of samples, against the mixer that put them in."""

import numpy as np
import pytest

from phy.front_end_correction import corrected
from phy.impairments import IqImbalance


def circular(count, seed=150):
    return (np.random.default_rng(seed).standard_normal(2 * count).view(complex)).astype(
        np.complex64
    )


def image_db(samples, original):
    """Power of the conjugate of the original in the samples, relative to the original's."""
    basis = np.stack([original, original.conj()], axis=1)
    (direct, mirrored), *_ = np.linalg.lstsq(basis, samples, rcond=None)
    return 20 * np.log10(abs(mirrored) / abs(direct))


@pytest.mark.parametrize("imbalance", [IqImbalance(1, 5), IqImbalance(-2, 10), IqImbalance(3, -15)])
def test_image_is_taken_out(imbalance):
    """Left is what chance makes of the squares' mean: 1 / sqrt(n) is -43 dB, here doubled."""
    signal = circular(20_000)
    received = imbalance.block(1.0).process(signal) + np.complex64(0.3 - 0.1j)
    assert image_db(received, signal) == pytest.approx(-imbalance.image_rejection_db, abs=0.2)
    clean = corrected(received, circular=True)
    assert image_db(clean, signal) < -37
    assert abs(clean.mean()) < 1e-3
    assert image_db(corrected(received, circular=False), signal) > -25


def test_what_is_not_circular_is_left_alone():
    """A balanced signal, a real one, and one under a strong real interferer."""
    signal = circular(20_000)
    real = signal.real.astype(np.complex64)
    jammed = signal + 3 * circular(20_000, seed=151).real
    for samples in (signal, real, jammed):
        assert corrected(samples, circular=True) == pytest.approx(
            samples - samples.mean(), abs=1e-5
        )


def test_nothing_and_silence():
    assert corrected(np.empty(0, dtype=np.complex64), circular=True).size == 0
    silence = np.zeros(100, dtype=np.complex64)
    assert (corrected(silence, circular=True) == 0).all()
