"""The reader of TF_CONFIG, which names a cluster's workers; imports no TensorFlow."""

import json
import os

from model.errors import PipelineError

_FORM = '{"cluster": {"worker": ["host:port"]}, "task": {"type": "worker", "index": 0}}'


class TFConfigError(PipelineError):
    """TF_CONFIG does not have the form that TensorFlow documents."""

    is_bad_input = True


def count_workers() -> int:
    """Returns the number of workers in TF_CONFIG, including the chief; 0 if not set.

    Raises:
      TFConfigError: TF_CONFIG does not have the form that TensorFlow documents.
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
            # An evaluator has a task, but is not listed in the cluster.
            if kind in cluster and not 0 <= index < len(cluster[kind]):
                raise LookupError
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        raise TFConfigError(
            f"TF_CONFIG must be JSON such as {_FORM}, got {text!r}: unset it, unless "
            "this process is one of a cluster"
        ) from error
    return sum(len(cluster.get(kind, [])) for kind in ("chief", "worker"))
