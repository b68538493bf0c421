"""`make bench`: all parts, one after the other; the last takes half an hour or more."""

from tests.benchmarks import (
    determinism,
    input,
    precision,
    replicas,
    steps,
    time_to_115,
)

if __name__ == "__main__":
    for part in (steps, input, precision, replicas, determinism, time_to_115):
        part.main()
