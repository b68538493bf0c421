"""The report of a local run: a page and pictures, made from the run's metadata."""

import json
import pathlib
from typing import Any

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from components.reporting import charts, page
from model.errors import PipelineError
from model.files import regular_files
from pipeline.local import metadata_database
from pipeline.runs import run_record

# The type names of TFX's contexts.
_RUN, _NODE = "pipeline_run", "node"
_STEP = "Report"


class ReportError(PipelineError):
    """A run or its report does not exist; the message says why and what to do."""

    is_bad_input = True


def make(root: pathlib.Path, run_id: str | None = None) -> pathlib.Path:
    """Writes the page and the pictures of a run's report into ROOT/reports/RUN.

    The Report step has made the page without the steps' times. This renders the page
    again from that step's facts, with how long each step took and which steps came from
    the cache: only the metadata contain these two.

    Args:
      root: the root of local runs.
      run_id: the run's id, which is the name of its log file; None: the last run that
        has a report.

    Returns:
      The path of the page.

    Raises:
      ReportError: there is no such run, or it has no report.
    """
    if run_id is not None and not run_record.is_run_id(run_id):
        raise ReportError(
            "--run must be the id of a run, such as run-20261123-180015-785816, got "
            f"{run_id[:100]!r}"
        )
    store = _open_store(root / "metadata.sqlite")
    run, executions = _find_run(store, root, run_id=run_id)
    if not run_record.is_run_id(run):  # the report would be in another folder
        raise ReportError(
            f"the runs in {root / 'metadata.sqlite'} must have ids such as "
            f"run-20261123-180015-785816, got {run[:100]!r}: another program wrote it; "
            "name a run by --run"
        )
    folder = _find_facts_folder(store, executions)
    try:
        facts = json.loads(regular_files.read_text(folder / page.FACTS))
    except OSError as error:
        raise ReportError(
            f"the report of {run} is in the metadata, but not in {folder}: run again "
            "with another --root"
        ) from error
    pictures = {
        path.stem: regular_files.read_bytes(path)
        for path in sorted(folder.glob("*.png"))
    }
    steps = [_describe_step(_name(store, each), each) for each in executions]
    facts["run"] = {"id": run, "steps": steps}
    figure = charts.draw_seconds_per_step(
        [(step["name"], step["seconds"], step["cached"]) for step in steps]
    )
    pictures[page.STEPS] = charts.encode_png(figure)
    result = root / "reports" / run
    result.mkdir(parents=True, exist_ok=True)
    for name, data in pictures.items():
        (result / f"{name}.png").write_bytes(data)
    path = result / page.PAGE
    path.write_text(page.render_page(facts, pictures), encoding="utf-8")
    return path


def _open_store(path: pathlib.Path) -> metadata_store.MetadataStore:
    try:
        path.stat()
    except FileNotFoundError as error:
        raise ReportError(
            f"--root must be a folder with runs, there is no {path}: the command `run` "
            "makes it"
        ) from error
    # Read-only, because a run may be using the file.
    return metadata_database.open_store(path, is_read_only=True)


def _find_run(
    store: metadata_store.MetadataStore, root: pathlib.Path, *, run_id: str | None
) -> tuple[str, list[Any]]:
    """Returns the id of the run, and its executions from the first to the last."""
    runs = sorted(store.get_contexts_by_type(_RUN), key=lambda context: context.id)
    names = [run_record.parse_run_id(context.name) for context in runs]
    if run_id is not None and run_id not in names:
        known = ", ".join(names[-3:]) or "none"
        raise ReportError(
            f"--run must be a run in {root}, got {run_id}; the last ones: {known}"
        )
    for name, context in zip(reversed(names), reversed(runs)):
        executions = store.get_executions_by_context(context.id)
        executions.sort(key=lambda execution: execution.id)
        last = executions[-1] if executions else None
        has_report = (
            last is not None
            and _name(store, last) == _STEP
            and last.last_known_state in metadata_database.DONE
        )
        if run_id is None and has_report:
            return name, executions
        if name == run_id:
            if has_report:
                return name, executions
            where = f"it ended in {_name(store, last)}" if last else "it has no steps"
            raise ReportError(f"the run {run_id} has no report: {where}")
    raise ReportError(f"no run in {root} has a report: the command `run` makes one")


def _find_facts_folder(
    store: metadata_store.MetadataStore, executions: list
) -> pathlib.Path:
    """Returns the folder of the facts and pictures that a run's Report step wrote."""
    events = store.get_events_by_execution_ids([executions[-1].id])
    (artifact,) = store.get_artifacts_by_id(
        [
            event.artifact_id
            for event in events
            if event.type == metadata_store_pb2.Event.OUTPUT
            and event.path.steps[0].key == "metrics"
        ]
    )
    return pathlib.Path(artifact.uri)


def _describe_step(name: str, execution) -> dict[str, Any]:
    """Returns a step's name, its seconds, and whether it came from the cache."""
    milliseconds = (
        execution.last_update_time_since_epoch - execution.create_time_since_epoch
    )
    return {
        "name": name,
        "seconds": milliseconds / 1000,
        "cached": execution.last_known_state == metadata_store_pb2.Execution.CACHED,
    }


def _name(store: metadata_store.MetadataStore, execution) -> str:
    """Returns the name of a step in the graph, where two steps may have one type."""
    names = [
        context.name.rpartition(".")[2]
        for context in store.get_contexts_by_execution(execution.id)
        if context.type == _NODE
    ]
    return names[0] if names else execution.type.rpartition(".")[2]
