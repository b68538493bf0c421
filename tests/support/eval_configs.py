"""Readers of TFMA's configuration in JSON, as the Evaluator gets it."""


def find_thresholds(config):
    """Returns each output's bounds for the whole test split, by the output's name."""
    found = {}
    for spec in config["metrics_specs"]:
        for metric in spec["metrics"]:
            for threshold in metric.get("per_slice_thresholds", []):
                assert threshold["slicing_specs"] == [{}]
                (output,) = spec["output_names"]
                assert output not in found
                assert set(threshold["threshold"]) == {"value_threshold"}
                found[output] = threshold["threshold"]["value_threshold"]
    return found
