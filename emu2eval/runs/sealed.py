"""A checksum at the head of what is stored: a damaged byte is told, never believed."""

from __future__ import annotations

import re
from zlib import crc32

_HEAD = re.compile(rb'\{\s*"sum":\s*"([0-9a-f]{8})",')


class Damaged(ValueError):
    """Bytes that are not as they were written."""


def seal(body: bytes) -> bytes:
    """A JSON object with its checksum as the first key, laid out as the object is.

    >>> seal(b'{"id":"q"}')
    b'{"sum":"79ed8d83","id":"q"}'
    """
    head = b'{\n  "sum": "%08x",' if body.startswith(b"{\n") else b'{"sum":"%08x",'
    return head % crc32(body) + body[1:]


def is_sealed(data: bytes) -> bool:
    return _HEAD.match(data) is not None


def unseal(data: bytes) -> bytes:
    """The JSON object that was sealed. Raises Damaged where it has no checksum, or another one."""
    head = _HEAD.match(data)
    if head is None:
        raise Damaged("its checksum is missing")
    body = b"{" + data[head.end() :]
    if crc32(body) != int(head[1], 16):
        raise Damaged("its checksum does not match")
    return body
