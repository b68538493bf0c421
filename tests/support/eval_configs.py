"""Readers of TFMA's configuration in JSON, as the Evaluator gets it."""


def find_thresholds(config, *, slicing=None):
    """Returns each output's bounds, by the output's name.

    Args:
      config: the configuration.
      slicing: the slices that the bounds are for; None: the whole test split.
    """
    found = {}
    for spec in config["metrics_specs"]:
        for metric in spec["metrics"]:
            for threshold in metric.get("per_slice_thresholds", []):
                if threshold["slicing_specs"] != [slicing or {}]:
                    continue
                (output,) = spec["output_names"]
                assert output not in found
                assert set(threshold["threshold"]) == {"value_threshold"}
                found[output] = threshold["threshold"]["value_threshold"]
    return found
