"""Ogg pages: where one of several concatenated streams ends (RFC 3533)."""

from __future__ import annotations

from typing import BinaryIO


def end_of_stream(file: BinaryIO, start: int, size: int) -> int:
    """End of the Ogg stream that begins at byte `start` of a file of `size` bytes; `size` for another format.

    libsndfile takes the length of an Ogg stream from the last page of the file, even if that belongs to another stream.
    """
    position, is_header = start, True
    while True:
        file.seek(position)
        page = file.read(27 + 255)  # version, flags and so on; the number of segments; the length of each
        if not page.startswith(b"OggS") or len(page) < 27:
            return size  # the end, another format, or damage, after which the decoder may find more pages
        is_first_page = bool(page[5] & 2)
        if is_first_page and not is_header:
            return position
        is_header = is_first_page
        position += 27 + page[26] + sum(page[27 : 27 + page[26]])
