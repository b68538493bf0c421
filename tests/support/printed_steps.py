"""The steps of a local run, and which of them its printed lines name."""

import re

STEPS = {
    *("Data", "ImportSchemaGen", "Ingest", "ServedModel", "StatisticsGen"),
    *("ExampleValidator", "DataGate", "Transform", "Trainer", "Bounds", "Evaluator"),
    *("InfraCheck", "Pusher", "Report"),
}


def ended(printed):
    """Returns the steps of the graph that a run ended, and not from the cache."""
    return {*re.findall(r"^(\w+) +\d+\.\d s ", printed, re.M)} - {"Imports", "Data"}


def cached(printed):
    """Returns the steps that a run took from the cache."""
    return {*re.findall(r"^(\w+) +from the cache", printed, re.M)}
