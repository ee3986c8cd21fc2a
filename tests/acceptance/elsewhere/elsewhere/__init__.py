"""A package of somebody else's that extends tunnelkit; `tests.packaging.test_plug_ins` installs it.

It is written from `tunnelkit.interfaces` and the pages of docs/howto alone.
"""
