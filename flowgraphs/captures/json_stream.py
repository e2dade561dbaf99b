"""A JSON object read member by member, and its longest array element by element.

The metadata of an hour on the air hold hundreds of thousands of annotations; read as a whole they
would take gigabytes. Here no more is held than one value, whose length is limited.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, NoReturn, Protocol

_CHUNK = 2**16
_BEHIND = frozenset(" \t\r\n,:]}")
LONGEST_VALUE = 2**20
"""Characters of a member, or of an element of the array that is read by elements."""


class Readable(Protocol):
    """What can be read in portions."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class JsonError(ValueError):
    """Not JSON, or beyond the limits; the message says where."""


def members(file: Readable, by_elements: str) -> Iterator[tuple[str, Any]]:
    """The members of the object that a file holds, in its order.

    Args:
        file: read from where it stands; UTF-8.
        by_elements: the member that is an array, which comes once for each of its elements.

    Yields:
        Name and value.

    Raises:
        JsonError: anything but one such object, numbers that JSON does not have, the same member
            twice, or a value longer than :data:`LONGEST_VALUE`.
    """
    text = _Text(file)
    text.expect("{")
    names: set[str] = set()
    while text.following(first=not names, end="}"):
        name = text.value()
        if not isinstance(name, str):
            text.fail("a member has no name")
        if name in names:
            text.fail(f"there are two members {name[:40]!r}")
        names.add(name)
        text.expect(":")
        if name == by_elements:
            text.expect("[")
            first = True
            while text.following(first, end="]"):
                yield name, text.value()
                first = False
        else:
            yield name, text.value()
    if text.peek():
        text.fail("something follows behind the end")


class _Text:
    """The text of a file, of which a window is held."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder(parse_constant=self._no_constant)
        self._window, self._at, self._before = "", 0, 0
        self._ended = False

    def fail(self, reason: str) -> NoReturn:
        """Raise the error for the present place."""
        raise JsonError(f"{reason} (at character {self._before + self._at})")

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._window) and self._window[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._window):
                return self._window[self._at]
            if self._ended:
                return ""
            self._read(_CHUNK)

    def expect(self, character: str) -> None:
        """Pass over a character that must come next."""
        if self.peek() != character:
            self.fail(f"{character!r} is missing")
        self._at += 1

    def following(self, first: bool, end: str) -> bool:
        """Whether a list goes on, behind its comma unless this is its first item."""
        if self.peek() == end:
            self._at += 1
            return False
        if not first:
            self.expect(",")
        return True

    def value(self) -> Any:
        """The value that comes next."""
        self.peek()
        while True:
            length = len(self._window) - self._at
            try:
                value, end = self._json.raw_decode(self._window, self._at)
            except json.JSONDecodeError as error:
                if self._ended or length > LONGEST_VALUE:
                    self.fail(error.msg if self._ended else "a value is too long, or not JSON")
            except (ValueError, RecursionError) as error:
                self.fail(str(error))
            else:
                if end - self._at > LONGEST_VALUE:
                    self.fail("a value is too long")
                if self._ended or self._window[end : end + 1] in _BEHIND:  # else a number goes on
                    self._at = end
                    return value
            self._read(max(length, _CHUNK))

    def _read(self, count: int) -> None:
        data = self._file.read(count)
        self._ended = not data
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            self.fail(f"not UTF-8: {error.reason}")
        self._before += self._at
        self._window, self._at = self._window[self._at :] + text, 0

    def _no_constant(self, name: str) -> NoReturn:
        raise ValueError(f"{name} is no number of JSON")
