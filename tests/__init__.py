"""All tests, and the processes that they fork."""

from pipeline.startup import environment

# Before a library is imported, as the programs do.
environment.import_less()
