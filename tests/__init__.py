"""Tests of tunnelkit."""
