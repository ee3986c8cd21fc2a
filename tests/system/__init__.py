"""Tests in a network laboratory: two companies, two firewalls, the internet between them.

They need root, Debian's programs and some minutes, so they are no part of ``make test``:
``make system-test`` installs what is missing and runs them. See docs/design/laboratory.md.
"""
