"""Smoke tests of the measuring scripts, with tiny amounts."""
