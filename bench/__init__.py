"""Measurements of tunnelkit beside its peers, run side by side on one machine.

Run a script as a module from the root of the source tree, for example
``python -m bench.whole_job --quick``. ``bench/README.md`` says what each one shows.
"""
