"""``--mcs auto``: the scheme that a link's transmitter takes, once it has heard of the channel.

A transmitter learns from its receiver's reports how strong the noise is, estimation errors
included, and how the channel fades; it does not know the gains to come. Here a probe, sixteen short
frames of QPSK over the link's own channel (with other draws), gives the first, and the channel's
parameters give the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phy import FrameReport, Transmitter, TransmitterConfig
from phy.chain import Chain
from phy.channel import PlaneWaves
from phy.link_adaptation import fastest_mcs
from phy.mcs import ModulationCodingScheme, get_mcs
from phy.message import plan_message
from phy.random_process import child_seed
from phy.tapped_delay_line import FadingFilter

if TYPE_CHECKING:
    from flowgraphs.link import LinkConfig

AUTO = "auto"
"""Stands for the fastest scheme that the channel allows."""
MARGIN_DB = 0.5
"""SNR that is left for what the mapping of gains to error rates does not know."""
_PROBE = "qpsk-1/3"
_PROBE_FRAMES, _PROBE_SYMBOLS = 16, 2048
_BLOCKS, _GAINS, _WAVES = 300, 50, 32  # transport blocks, gains of each, and waves of a fading
_TIMES, _FREQUENCIES = 10, 16  # of a multipath channel's gains


def scheme_of(config: LinkConfig, message_bytes: int) -> ModulationCodingScheme:
    """The scheme of a link for a message; a given one, or the fastest that loses 1 % of blocks.

    Args:
        config: of the link.
        message_bytes: length of the message.

    Raises:
        MessageLengthError: the message is too long for the rate and depth.
    """
    if config.mcs != AUTO:
        return get_mcs(config.mcs)
    noise = probed_noise(config)
    if noise is None:
        return fastest_mcs(lambda _: np.zeros((1, 1)), 0.0)  # nothing was heard: the most robust

    def gains(mcs: ModulationCodingScheme) -> NDArray[np.float64]:
        layout = plan_message(message_bytes, mcs, config.depth)
        frame = config.phy_waveform.frame_symbols(layout.data_symbols)
        return power_gains(config, frame * layout.frame_count)

    return fastest_mcs(gains, float(-10 * np.log10(noise)) - MARGIN_DB)


def probed_noise(config: LinkConfig) -> float | None:
    """Mean noise variance that a probe's frames report, relative to Es; None if none is heard."""
    transmitter = Transmitter(
        TransmitterConfig(_PROBE, _PROBE_FRAMES, _PROBE_SYMBOLS, config.phy_waveform)
    )
    mcs = get_mcs(_PROBE)
    symbols = _PROBE_FRAMES * _PROBE_SYMBOLS
    message = bytes(int(symbols * mcs.spectral_efficiency) // 8 - 16)
    seed = np.random.SeedSequence([config.seed, 1])
    path, receiver = config.make_path(seed, child_seed(seed, 2)), config.make_receiver()
    events = []
    silence = np.zeros(4096, dtype=np.complex64)  # the synchronizer looks beyond the last frame
    for samples in (*transmitter.send(message), transmitter.flush(), silence):
        received = path.process(samples)
        events += receiver.process(received.samples, received.gains)
    events += receiver.flush()
    reports = [e.noise_variance for e in events if isinstance(e, FrameReport) and e.header_ok]
    return float(np.mean(reports)) if reports else None


def power_gains(config: LinkConfig, symbols: int) -> NDArray[np.float64]:
    """Samples of the power gain over transport blocks of so many symbols.

    Returns:
        (blocks, n) |h|^2, float64; of fixed draws, since they stand for statistics.
    """
    rng = np.random.default_rng(0)
    match config.channel:
        case "awgn":
            return np.ones((1, 1))
        case "rayleigh":
            times = np.linspace(0, symbols, _GAINS)
            doppler = config.doppler_hz / config.symbol_rate
            draws = [PlaneWaves.jakes(doppler, rng, _WAVES).at(times) for _ in range(_BLOCKS)]
            return np.abs(np.array(draws)) ** 2
        case "rayleigh-block":
            return rng.exponential(size=(_BLOCKS, -(-symbols // config.block_length)))
        case "rayleigh-iid":
            return rng.exponential(size=(1, _GAINS * _BLOCKS))
        case _:
            return np.array([_multipath_gains(config, symbols, seed) for seed in range(_BLOCKS)])


def _multipath_gains(config: LinkConfig, symbols: int, seed: int) -> NDArray[np.float64]:
    """(n,) |H|^2 over the time of a transport block and the band of the signal, of one draw."""
    chain = config.make_channel(np.random.SeedSequence(seed))
    assert isinstance(chain, Chain)
    (fading,) = chain.stages(FadingFilter)
    samples = symbols * config.phy_waveform.samples_per_symbol
    times = np.linspace(0, samples, _TIMES).astype(np.int64)
    frequencies = np.linspace(-0.5, 0.5, _FREQUENCIES) * config.symbol_rate
    return np.abs(fading.frequency_response(times, frequencies)).ravel() ** 2
