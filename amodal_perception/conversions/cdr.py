"""The header's stamp in a serialised (CDR) message, read and written without decoding the rest."""

from __future__ import annotations

import struct

from amodal_perception.errors import ImageError


def message_stamp_ns(cdr: bytes) -> int:
    """Read the stamp of a serialised message that begins with a std_msgs/Header.

    Returns:
        Nanoseconds.

    Raises:
        ImageError: the message is too short to hold a header.
    """
    if len(cdr) < 12:
        raise ImageError(f"a message of {len(cdr)} bytes holds no header")
    seconds, nanoseconds = struct.unpack_from(_stamp_format(cdr), cdr, 4)
    return int(seconds) * 10**9 + int(nanoseconds)


def with_stamp(cdr: bytes, stamp_ns: int) -> bytes:
    """Return the message with another stamp, nanoseconds, in its header."""
    stamp = struct.pack(_stamp_format(cdr), *divmod(stamp_ns, 10**9))
    return cdr[:4] + stamp + cdr[12:]


def _stamp_format(cdr: bytes) -> str:
    """The second byte of the CDR header is odd where numbers are little-endian."""
    return "<iI" if cdr[1] & 1 else ">iI"
