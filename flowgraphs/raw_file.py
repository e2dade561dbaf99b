"""Raw samples in a file: complex64, little-endian, nothing else; named pipes work too."""

from __future__ import annotations

import select
from pathlib import Path

import numpy as np

from flowgraphs.stream import SAMPLE_BYTES, ComplexArray, SampleSink, SampleSource

_ITEM = np.dtype("<c8")
_READ_BYTES = SAMPLE_BYTES * 2**16


class FileSource(SampleSource):
    """Reads a file from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be read.
        """
        super().__init__(f"file:{path}")
        self._file = path.open("rb", buffering=0)
        self._rest = b""

    def read(self, timeout_s: float) -> ComplexArray | None:
        """See :meth:`flowgraphs.stream.SampleSource.read`."""
        if not select.select([self._file], [], [], timeout_s)[0]:
            return np.empty(0, dtype=np.complex64)
        data = self._file.read(_READ_BYTES)
        if not data:
            self.status.bytes_discarded += len(self._rest)
            self._rest = b""
            return None
        data = self._rest + data
        whole = len(data) - len(data) % SAMPLE_BYTES
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], dtype=_ITEM)
        self.status.samples += samples.size
        return samples

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FileSink(SampleSink):
    """Writes a file anew."""

    def __init__(self, path: Path) -> None:
        """Open the file, and empty it.

        Raises:
            OSError: it cannot be written.
        """
        super().__init__(f"file:{path}")
        self._file = path.open("wb")

    def write(self, samples: ComplexArray, timeout_s: float) -> int:
        """See :meth:`flowgraphs.stream.SampleSink.write`; a file takes all at once."""
        self._file.write(samples.astype(_ITEM, copy=False).tobytes())
        self.status.samples += samples.size
        return samples.size

    def close(self) -> None:
        """Write what is buffered, and close the file."""
        self._file.close()
