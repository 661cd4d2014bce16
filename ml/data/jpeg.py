"""What has to be known of a JPEG file before it is decoded: how many scans it has (ITU-T T.81, annex B)."""

import re

MAX_SCANS = 200
"""Photos have 1 to about 15; each takes time for all pixels, whatever its size in bytes."""
ENDS = (b"\xff\xd9", b"\x55" * 64 + b"\xff\xd9")
"""Two ends for a file that lacks one: the marker, and bytes that make pixels where pixels lack."""
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SCAN, _END = 0xDA, 0xD9


def count_scans(data: bytes) -> int:
    """Return how many scans the first picture of a file has; no more than `MAX_SCANS` + 1 are counted."""
    scans, place = 0, 2
    while scans <= MAX_SCANS and (found := _MARKER.search(data, place)):
        marker = data[found.start() + 1]
        if marker == _END:
            break
        scans += marker == _SCAN
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return scans
