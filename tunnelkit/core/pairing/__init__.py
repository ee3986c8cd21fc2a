"""Pairing by a one-time code, sans-IO (row Q2).

- `code`: what one person reads to the other, ``7-gravel-tulip-otter``
- `words`: the words that codes are made of
- `exchange`: what the two ends say to each other until each has the other's key
- `pake`: the one thing that is somebody else's: CPace
"""
