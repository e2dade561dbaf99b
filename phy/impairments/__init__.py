"""What real radios do to samples: blocks between the transmitter and the receiver.

In the order of the signal path::

    clock.py        sampling clock offset, delay
    front_end.py    IQ imbalance, DC offset, gain, power amplifier, converter
    oscillator.py   carrier offset and drift, phase noise; both offsets of one reference oscillator
    interference.py tones and bursts of noise
    noise.py        thermal noise
    gain_control.py automatic gain control

block.py says what they have in common; phy.chain joins them with fading in the physical order.

Examples:
    >>> import numpy as np
    >>> from phy.impairments import Adc, reference_oscillator
    >>> carrier, clock = reference_oscillator(error_ppm=-2, carrier_hz=2.4e9, side="transmit")
    >>> carrier.carrier_offset_hz
    -4800.0
    >>> converter = Adc(adc_bits=3, adc_full_scale=1).block(sample_rate_hz=1e6)
    >>> converter.process([0.3 - 0.6j, 2])
    array([0.25-0.5j, 0.75+0.j ], dtype=complex64)
    >>> converter.clipped_samples
    1
"""

from phy.impairments.block import Impairment, SampleBlock, Side
from phy.impairments.clock import ClockOffset, Delay
from phy.impairments.front_end import Adc, DcOffset, Gain, IqImbalance, PowerAmplifier
from phy.impairments.gain_control import GainControl
from phy.impairments.interference import NoiseInterferer, ToneInterferer
from phy.impairments.noise import AdditiveNoise
from phy.impairments.oscillator import CarrierOffset, PhaseNoise, reference_oscillator

__all__ = [
    "Adc",
    "AdditiveNoise",
    "CarrierOffset",
    "ClockOffset",
    "DcOffset",
    "Delay",
    "Gain",
    "GainControl",
    "Impairment",
    "IqImbalance",
    "NoiseInterferer",
    "PhaseNoise",
    "PowerAmplifier",
    "SampleBlock",
    "Side",
    "ToneInterferer",
    "reference_oscillator",
]
