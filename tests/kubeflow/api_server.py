"""A server of the part of KFP's v2beta1 REST API that the project uses.

Its state is in memory. The server checks requests and makes answers with the models of
kfp-server-api: it answers 400 to an unknown field, as KFP does.
"""

import contextlib
import dataclasses
import datetime
import json
import re
import threading
import time
import uuid

import flask
import kfp_server_api as api
import werkzeug.serving
import yaml

from pipeline.kubeflow import client

# Limits of a client on a busy machine: only the wait between attempts is short.
LIMITS = client.Limits(backoff=0.01)

_CLIENT = api.ApiClient(api.Configuration())
_PREFIX = "/apis/v2beta1"


@dataclasses.dataclass
class Fault:
    """An answer that replaces the server's own, and the requests that receive it."""

    status: int = 500
    times: int = 10**6
    method: str = ""  # empty: any method
    path: str = ""  # a regular expression; empty: any path
    body: str = '{"code": 13, "message": "something broke"}'
    content_type: str = "application/json"
    hang: float = 0.0  # seconds
    after: bool = False  # whether the server does what was requested before it answers


class Server:
    """The server's state, its recorded requests, and the faults that a test sets."""

    def __init__(self):
        self.url = ""
        self.requests = []  # (method, path below /apis/v2beta1)
        self.headers = []  # headers of each request
        self.faults = []
        self.pipelines, self.versions, self.experiments = {}, {}, {}
        self.runs, self.recurring_runs = {}, {}
        self.packages = {}  # version id -> bytes
        # the maximum number of recurring runs that were enabled at the same time
        self.most_enabled = 0
        self.deleted_with_runs = []
        self.page_limit = 100
        self.before_upload = lambda: None

    def reset(self):
        self.__init__()

    def task(self, run_id, name, state, seconds=(0.0, None), error=None):
        """Sets the state of a run's task."""
        run = self.runs[run_id]
        start = run.created_at + datetime.timedelta(seconds=seconds[0])
        end = None
        if seconds[1] is not None:
            end = start + datetime.timedelta(seconds=seconds[1])
        details = [t for t in run.run_details.task_details if t.display_name != name]
        details.append(
            api.V2beta1PipelineTaskDetail(
                run_id=run_id,
                task_id=f"{run_id}-{name}",
                display_name=name,
                create_time=start,
                start_time=start,
                end_time=end,
                state=state,
                error=_status(error),
            )
        )
        run.run_details = api.V2beta1RunDetails(task_details=details)

    def finish(self, run_id, state="SUCCEEDED", error=None):
        """Ends a run with a state."""
        self.runs[run_id].state = state
        self.runs[run_id].error = _status(error)

    def of_name(self, name):
        """Returns the recurring runs with this name."""
        return [r for r in self.recurring_runs.values() if r.display_name == name]

    def writes(self):
        """Returns the requests whose method is not GET."""
        return [request for request in self.requests if request[0] != "GET"]


@contextlib.contextmanager
def serve():
    """Yields a Server that listens on the loopback."""
    server = Server()
    http = werkzeug.serving.make_server("127.0.0.1", 0, _app(server), threaded=True)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{http.server_port}"
    server.url = url
    plain_reset = server.reset

    def reset():
        plain_reset()
        server.url, server.reset = url, reset

    server.reset = reset
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def _status(message):
    # The name of the class depends on the version of kfp-server-api.
    status = getattr(api, "GoogleRpcStatus", None) or api.GooglerpcStatus
    return status(code=13, message=message) if message else None


def _app(server):
    app = flask.Flask(__name__)

    @app.before_request
    def fault():
        path = flask.request.path.removeprefix(_PREFIX)
        server.requests.append((flask.request.method, path))
        server.headers.append(dict(flask.request.headers))
        for fault in server.faults:
            if (
                fault.times > 0
                and fault.method in ("", flask.request.method)
                and re.search(fault.path, path)
            ):
                fault.times -= 1
                if fault.after:
                    flask.g.fault = fault
                    return None
                return _answer(fault)
        return None

    @app.after_request
    def fault_after(response):
        fault = flask.g.pop("fault", None)
        return _answer(fault) if fault else response

    @app.get(f"{_PREFIX}/healthz")
    def healthz():
        return _json(api.V2beta1GetHealthzResponse(multi_user=False))

    @app.get(f"{_PREFIX}/pipelines")
    def list_pipelines():
        return _page(server, server.pipelines, "Pipelines")

    @app.post(f"{_PREFIX}/pipelines")
    def create_pipeline():
        pipeline = _body("V2beta1Pipeline")
        _need(pipeline.display_name, "pipeline name")
        if any(p.display_name == pipeline.display_name for p in _all(server.pipelines)):
            _refuse(409, "The name already exists")
        pipeline.pipeline_id = _id()
        return _add(server.pipelines, pipeline.pipeline_id, pipeline)

    @app.get(f"{_PREFIX}/pipelines/<pipeline_id>/versions")
    def list_versions(pipeline_id):
        _find(server.pipelines, pipeline_id)
        of_it = {
            i: v for i, v in server.versions.items() if v.pipeline_id == pipeline_id
        }
        return _page(server, of_it, "PipelineVersions")

    @app.get(f"{_PREFIX}/pipelines/<pipeline_id>/versions/<version_id>")
    def get_version(pipeline_id, version_id):
        _find(server.pipelines, pipeline_id)
        return _json(_find(server.versions, version_id))

    @app.post(f"{_PREFIX}/pipelines/upload_version")
    def upload_version():
        server.before_upload()
        upload = flask.request.files["uploadfile"]
        pipeline_id = flask.request.args["pipelineid"]
        name = flask.request.args["name"]
        _find(server.pipelines, pipeline_id)
        if any(
            v.display_name == name and v.pipeline_id == pipeline_id
            for v in _all(server.versions)
        ):
            _refuse(409, f"Failed to create a version: {name} already exists")
        package = upload.read()
        documents = list(yaml.safe_load_all(package))
        spec = documents[0]
        if len(documents) > 1:
            spec = {"pipeline_spec": spec, "platform_spec": documents[1]}
        version = api.V2beta1PipelineVersion(
            pipeline_id=pipeline_id,
            pipeline_version_id=_id(),
            display_name=name,
            pipeline_spec=spec,
        )
        server.packages[version.pipeline_version_id] = package
        return _add(server.versions, version.pipeline_version_id, version)

    @app.get(f"{_PREFIX}/experiments")
    def list_experiments():
        return _page(server, server.experiments, "Experiments")

    @app.post(f"{_PREFIX}/experiments")
    def create_experiment():
        experiment = _body("V2beta1Experiment")
        _need(experiment.display_name, "experiment name")
        names = [e.display_name for e in _all(server.experiments)]
        if experiment.display_name in names:
            _refuse(409, "experiment already exists")
        experiment.experiment_id = _id()
        return _add(server.experiments, experiment.experiment_id, experiment)

    @app.get(f"{_PREFIX}/runs")
    def list_runs():
        return _page(server, server.runs, "Runs")

    @app.post(f"{_PREFIX}/runs")
    def create_run():
        run = _body("V2beta1Run")
        _need(run.display_name, "run name")
        _find(server.experiments, run.experiment_id)
        _find(server.versions, run.pipeline_version_reference.pipeline_version_id)
        run.run_id, run.state = _id(), "PENDING"
        run.created_at = datetime.datetime.now(datetime.timezone.utc)
        run.run_details = api.V2beta1RunDetails(task_details=[])
        return _add(server.runs, run.run_id, run)

    @app.get(f"{_PREFIX}/runs/<run_id>")
    def get_run(run_id):
        return _json(_find(server.runs, run_id))

    @app.get(f"{_PREFIX}/recurringruns")
    def list_recurring_runs():
        return _page(server, server.recurring_runs, "RecurringRuns")

    @app.post(f"{_PREFIX}/recurringruns")
    def create_recurring_run():
        run = _body("V2beta1RecurringRun")
        _need(run.display_name, "recurring run name")
        _find(server.experiments, run.experiment_id)
        _find(server.versions, run.pipeline_version_reference.pipeline_version_id)
        if not 5 <= len(run.trigger.cron_schedule.cron.split()) <= 6:
            _refuse(400, "Schedule cron is not a supported format")
        if not 1 <= int(run.max_concurrency) <= 10:
            _refuse(400, "The max concurrency is out of range")
        run.recurring_run_id = _id()
        run.created_at = datetime.datetime.now(datetime.timezone.utc)
        run.status = f"{run.mode}D"
        answer = _add(server.recurring_runs, run.recurring_run_id, run)
        _count_enabled(server)
        return answer

    @app.post(f"{_PREFIX}/recurringruns/<run_id>:<mode>")
    def change_mode(run_id, mode):
        run = _find(server.recurring_runs, run_id)
        run.mode = {"enable": "ENABLE", "disable": "DISABLE"}[mode]
        run.status = f"{run.mode}D"
        _count_enabled(server)
        return flask.jsonify({})

    @app.delete(f"{_PREFIX}/recurringruns/<run_id>")
    def delete_recurring_run(run_id):
        _find(server.recurring_runs, run_id)
        del server.recurring_runs[run_id]
        for run in _all(server.runs):
            if run.recurring_run_id == run_id and run.state in ("PENDING", "RUNNING"):
                server.deleted_with_runs.append(run.run_id)
        return flask.jsonify({})

    return app


def _page(server, items, field):
    """Returns a page of a list: filtered, sorted, with at most page_size items."""
    args = flask.request.args
    key = re.sub(r"(?<!^)([A-Z])", r"_\1", field).lower()
    found = list(items.values())
    if args.get("experiment_id"):
        found = [i for i in found if i.experiment_id == args["experiment_id"]]
    if args.get("filter"):
        for predicate in json.loads(args["filter"])["predicates"]:
            if predicate["operation"] not in ("EQUALS", 1):
                _refuse(400, f"unknown operation {predicate['operation']}")
            if predicate["key"] != "display_name":
                _refuse(400, f"no filter by {predicate['key']}")
            name = predicate["stringValue"]
            found = [i for i in found if i.display_name == name]
    order = args.get("sort_by") or "created_at"
    if order not in ("created_at", "created_at desc"):
        _refuse(400, f"can't sort by {order}")
    if order.endswith("desc"):
        found.reverse()
    first = int(args.get("page_token") or 0)
    last = first + min(int(args.get("page_size") or 20), server.page_limit)
    answer = getattr(api, f"V2beta1List{field}Response")(
        **{key: found[first:last] or None},
        next_page_token=str(last) if last < len(found) else "",
    )
    return _json(answer)


def _body(model):
    """Returns the request's body as a model; answers 400 to an unknown field."""
    text = flask.request.get_data(as_text=True)
    _check_fields(json.loads(text), model)

    class Response:
        data = text

    return _CLIENT.deserialize(Response, model)


def _check_fields(value, kind):
    if kind.startswith("V2beta1") and isinstance(value, dict):
        model = getattr(api, kind)
        known = {
            model.attribute_map[name]: t for name, t in model.openapi_types.items()
        }
        for name, inner in value.items():
            if name not in known:
                _refuse(400, f"unknown field {name} in {kind}")
            _check_fields(inner, known[name])


def _need(value, what):
    if not value:
        _refuse(400, f"the {what} is empty")


def _refuse(status, message):
    answer = flask.jsonify({"error": message, "code": 3, "message": message})
    answer.status_code = status
    flask.abort(answer)


def _find(items, key):
    if key not in items:
        _refuse(404, f"{key} not found")
    return items[key]


def _add(items, key, item):
    items[key] = item
    return _json(item)


def _all(items):
    return list(items.values())


def _id():
    return str(uuid.uuid4())


def _json(model):
    return flask.jsonify(_CLIENT.sanitize_for_serialization(model))


def _answer(fault):
    time.sleep(fault.hang)
    return flask.Response(
        fault.body, status=fault.status, content_type=fault.content_type
    )


def _count_enabled(server):
    enabled = [r for r in _all(server.recurring_runs) if r.mode == "ENABLE"]
    server.most_enabled = max(server.most_enabled, len(enabled))
