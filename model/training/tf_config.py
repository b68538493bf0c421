"""TF_CONFIG, the environment variable that names a cluster; needs no TensorFlow."""

import json
import os

_FORM = '{"cluster": {"worker": ["host:port"]}, "task": {"type": "worker", "index": 0}}'


class TFConfigError(ValueError):
    """TF_CONFIG is not what TensorFlow documents."""


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
            _check_task(task["type"], int(task["index"]), cluster=cluster)
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        raise TFConfigError(
            f"TF_CONFIG must be JSON such as {_FORM}, got {text!r}: unset it, unless "
            "this process is one of a cluster"
        ) from error
    return sum(len(cluster.get(kind, [])) for kind in ("chief", "worker"))


def _check_task(kind: str, index: int, *, cluster: dict) -> None:
    # An evaluator is a task, but not of the cluster.
    if kind in cluster and not 0 <= index < len(cluster[kind]):
        raise LookupError
