"""The graph's steps and the upstream steps of each, written by hand."""

UPSTREAM = {
    "StatisticsGen": ["Ingest", "ImportSchemaGen"],
    "ExampleValidator": ["StatisticsGen", "ImportSchemaGen"],
    "DataGate": ["ExampleValidator", "Ingest", "ImportSchemaGen", "ServedModel"],
    "Transform": ["Ingest", "ImportSchemaGen", "DataGate"],
    "BaselineScores": ["Transform", "ServedModel"],
    "ElboDrift": ["BaselineScores", "ServedModel"],
    "Trainer": ["Transform", "ElboDrift"],
    "CandidateScores": ["Transform", "Trainer"],
    "Evaluator": [
        *("BaselineScores", "CandidateScores", "Transform", "Trainer", "ServedModel"),
    ],
    "Bounds": ["Transform", "Trainer", "CandidateScores"],
    "InfraCheck": ["Trainer"],
    "Pusher": [
        *("Trainer", "Evaluator", "InfraCheck", "ServedModel", "Ingest", "DataGate"),
        "CandidateScores",
    ],
    "Report": [
        *("Ingest", "ExampleValidator", "Transform", "ServedModel", "Trainer"),
        *("DataGate", "BaselineScores", "CandidateScores", "Evaluator", "Bounds"),
        *("ElboDrift", "Pusher"),
    ],
}
STEPS = {"Ingest", "ImportSchemaGen", "ServedModel", *UPSTREAM}

# Upstream steps whose outputs the step does not read.
ONLY_WAITED_FOR = {"Transform": ["DataGate"], "Trainer": ["ElboDrift"]}


def find_steps_read_by(step):
    """Returns all steps whose outputs a step reads, directly or through others."""
    direct = set(UPSTREAM.get(step, [])) - set(ONLY_WAITED_FOR.get(step, []))
    return direct.union(*map(find_steps_read_by, direct))
