"""The format of acknowledgements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phy.errors import FeedbackError, FrameError
from phy.feedback import MAX_FEEDBACK_BYTES, Acknowledgement


def crc24c(octets: bytes) -> bytes:
    """Bit-by-bit division by D^24+D^23+D^21+D^20+D^17+D^15+D^13+D^12+D^8+D^4+D^2+D+1."""
    powers = (24, 23, 21, 20, 17, 15, 13, 12, 8, 4, 2, 1, 0)
    generator = sum(1 << power for power in powers)
    number = int.from_bytes(octets, "big") << 24
    for place in range(number.bit_length() - 1, 23, -1):
        if number >> place & 1:
            number ^= generator << place - 24
    return number.to_bytes(3, "big")


# kind, message id, message bytes, blocks - 1, round; then the body.
MISSING_HEAD = "1 beef 000c350 00a 3"
COMPLETE_HEAD = "2 beef 000c350 00a 4"


def test_literal_encodings() -> None:
    missing = Acknowledgement(0xBEEF, 50_000, 11, 3, (0, 9))
    head = bytes.fromhex((MISSING_HEAD + "8040").replace(" ", ""))
    assert missing.to_bytes() == head + crc24c(head)
    complete = Acknowledgement(0xBEEF, 50_000, 11, 4, (), b"hash")
    head = bytes.fromhex(COMPLETE_HEAD.replace(" ", "")) + b"hash"
    assert complete.to_bytes() == head + crc24c(head)
    assert complete.complete
    assert not missing.complete


@st.composite
def acknowledgements(draw: st.DrawFn) -> Acknowledgement:
    count = draw(st.integers(1, 4096))
    missing = tuple(sorted(draw(st.sets(st.integers(0, count - 1), max_size=40))))
    return Acknowledgement(
        draw(st.integers(0, 2**16 - 1)),
        draw(st.integers(0, 2**28 - 1)),
        count,
        draw(st.integers(1, 15)),
        missing,
        b"" if missing else draw(st.binary(min_size=4, max_size=4)),
    )


@given(acknowledgements())
def test_acknowledgements_come_back(sent: Acknowledgement) -> None:
    data = sent.to_bytes()
    assert len(data) <= MAX_FEEDBACK_BYTES
    assert Acknowledgement.from_bytes(data) == sent


@given(st.binary(max_size=600), st.booleans())
def test_any_bytes_give_an_acknowledgement_of_the_same_bytes_or_an_error(
    data: bytes, with_crc: bool
) -> None:
    if with_crc:
        data += crc24c(data)
    try:
        heard = Acknowledgement.from_bytes(data)
    except FeedbackError:
        return
    assert heard.to_bytes() == data


@given(acknowledgements(), st.data())
def test_damage_is_noticed(sent: Acknowledgement, data: st.DataObject) -> None:
    """CRC-24C detects every burst of up to 24 bits."""
    octets = sent.to_bytes()
    place = data.draw(st.integers(0, len(octets) - 3))
    burst = data.draw(st.integers(1, 2**24 - 1)).to_bytes(3, "big")
    bad = bytearray(octets)
    for offset, byte in enumerate(burst):
        bad[place + offset] ^= byte
    with pytest.raises(FeedbackError):
        Acknowledgement.from_bytes(bytes(bad))
    with pytest.raises(FeedbackError):
        Acknowledgement.from_bytes(octets[: data.draw(st.integers(0, len(octets) - 1))])
    assert issubclass(FeedbackError, FrameError)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("3 beef 000c350 00a 3 8040", "unknown kind 3"),
        ("1 beef 000c350 00a 0 8040", "round must be 1"),
        ("1 beef 000c350 00a 3 0000", "without a missing block"),
        ("1 beef 000c350 00a 3 8010", "ascending indices below 11"),
        ("1 beef 000c350 00a 3 804000", "11 blocks in a bitmap of 3 bytes"),
        ("2 beef 000c350 00a 3 6162636465", "a digest goes with"),
        ("1 beef 000c350 00a 3" + 600 * "00", "does not have 611 bytes"),
    ],
)
def test_contradictions_are_refused_in_spite_of_a_good_crc(head: str, reason: str) -> None:
    octets = bytes.fromhex(head.replace(" ", ""))
    with pytest.raises(FeedbackError, match=reason):
        Acknowledgement.from_bytes(octets + crc24c(octets))


@pytest.mark.parametrize(
    "change",
    [
        {"message_id": -1},
        {"message_bytes": 2**28},
        {"block_count": 4097},
        {"round": 16},
        {"missing_blocks": (1, 1)},
        {"missing_blocks": (5,)},
        {"missing_blocks": ()},
        {"digest_prefix": b"hash"},
    ],
)
def test_impossible_acknowledgements_are_refused(change: dict[str, object]) -> None:
    good = {
        "message_id": 1,
        "message_bytes": 9,
        "block_count": 5,
        "round": 1,
        "missing_blocks": (1,),
    }
    Acknowledgement(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must be|goes with"):
        Acknowledgement(**good | change)  # type: ignore[arg-type]


def test_a_small_acknowledgement_is_short() -> None:
    assert len(Acknowledgement(1, 9, 8, 1, tuple(range(8))).to_bytes()) == 12
