"""Suites and programs of others against our ports."""
