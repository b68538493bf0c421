"""TF_CONFIG, the environment variable that names a cluster; needs no TensorFlow."""

import json
import os

from model.errors import PipelineError

_FORM = '{"cluster": {"worker": ["host:port"]}, "task": {"type": "worker", "index": 0}}'


class TFConfigError(PipelineError):
    """TF_CONFIG is not what TensorFlow documents."""

    is_bad_input = True


def count_workers() -> int:
    """Returns how many workers TF_CONFIG names, including the chief; 0 without it.

    Raises:
      TFConfigError: TF_CONFIG is not what TensorFlow documents.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return 0
    try:
        value = json.loads(text)
        cluster, task = value.get("cluster", {}), value.get("task", {})
        for addresses in cluster.values():
            if not isinstance(addresses, (list, dict)):
                raise TypeError
        if cluster and task:
            kind, index = task["type"], int(task["index"])
            # An evaluator is a task, but not of the cluster.
            if kind in cluster and not 0 <= index < len(cluster[kind]):
                raise LookupError
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        raise TFConfigError(
            f"TF_CONFIG must be JSON such as {_FORM}, got {text!r}: unset it, unless "
            "this process is one of a cluster"
        ) from error
    return sum(len(cluster.get(kind, [])) for kind in ("chief", "worker"))
