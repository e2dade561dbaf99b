"""Whole numbers in as few bytes as they need (LEB128): headers and side information use them."""


def varint(value: int) -> bytes:
    """A whole number in LEB128: seven bits a byte, lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
