"""The steps that the printed lines of a local run name."""

import re

STEPS = {
    *("Data", "ImportSchemaGen", "Ingest", "ServedModel", "StatisticsGen"),
    *("ExampleValidator", "DataGate", "Transform", "BaselineScores", "ElboDrift"),
    *(
        "Trainer",
        "CandidateScores",
        "Bounds",
        "Evaluator",
        "InfraCheck",
        "Pusher",
        "Report",
    ),
}


def ended(printed):
    """Returns the steps of the graph that a run executed, not those from the cache."""
    return {*re.findall(r"^(\w+) +\d+\.\d s ", printed, re.M)} - {"Imports", "Data"}


def cached(printed):
    """Returns the steps whose outputs a run took from the cache."""
    return {*re.findall(r"^(\w+) +from the cache", printed, re.M)}
