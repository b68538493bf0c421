"""All benchmarks, one after another, for `make bench`: the last takes half an hour."""

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
