"""A hostile laboratory: real roles under attack, and honest users who must not notice."""
