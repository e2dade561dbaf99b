"""Channel estimators for the sections of a frame, made once for each geometry."""

from __future__ import annotations

from functools import lru_cache

from phy.estimation import ChannelEstimator
from phy.frame import FrameFormat


@lru_cache(maxsize=32)
def section_estimator(
    frame_format: FrameFormat, data_symbols: int | None, dopplers: tuple[float, ...]
) -> ChannelEstimator:
    """Estimator of the header section (data_symbols None), or of the payload section.

    Arguments:
        frame_format: the geometry.
        data_symbols: D of the frame, or None.
        dopplers: Doppler shifts to choose from, in cycles per symbol.
    """
    spacing = frame_format.pilot_spacing
    if data_symbols is None:
        geometry = frame_format.geometry(1)
        return ChannelEstimator(geometry.header_known, geometry.header_data, dopplers, spacing)
    geometry = frame_format.geometry(data_symbols)
    return ChannelEstimator(geometry.payload_known, geometry.payload_data, dopplers, spacing)
