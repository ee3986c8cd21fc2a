"""The version of the package, for what says it on the wire and in help texts."""

__version__ = "0.2.0"
