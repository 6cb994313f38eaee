"""Where reading is cut: a few places, another few for other bytes, the same for the same."""

from zlib import crc32

COUNT = 12


def cuts_of(data: bytes) -> list[int]:
    state, cuts = crc32(data), [0, len(data)]
    for _ in range(COUNT):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        cuts.append((state >> 8) % (len(data) + 1))
    return cuts
