"""The recurring run of a schedule: how it is created, changed and left alone."""

import datetime

import kfp_server_api
import pytest
import yaml

from pipeline.cli import main
from pipeline.config.loading import ConfigError
from pipeline.kubeflow import recurring_runs, submission
from pipeline.kubeflow.client import ClusterError
from pipeline.scheduling.cron import parse_cron
from tests.kubeflow.api_server import Fault

pytest_plugins = ["tests.kubeflow.fixtures"]

CRON = "0 0 3 * * *"
FLAGS = ("--image", "registry/vae:1", "--set", "push.destination=s3://b/serving")


@pytest.fixture
def version(connection, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"pipelineInfo": {"name": "vae"}}))
    version = submission.upload_pipeline(connection, path)
    submission.find_or_create_experiment(connection, "vae")
    return version


@pytest.fixture
def schedule(connection, version):
    def schedule(cron=CRON, name="vae", **parameters):
        parameters = parameters or {"epochs": 3}
        request = submission.RunRequest(
            version=version,
            experiment="vae",
            parameters=parameters,
            pipeline_root="s3://b/root",
        )
        return recurring_runs.set_schedule(connection, name, cron=cron, request=request)

    return schedule


def add_run(kfp, recurring_run_id, state="RUNNING"):
    recurring_run = kfp.recurring_runs[recurring_run_id]
    run = kfp_server_api.V2beta1Run(
        run_id="r1",
        display_name="r1",
        experiment_id=recurring_run.experiment_id,
        recurring_run_id=recurring_run_id,
        created_at=datetime.datetime.now(datetime.timezone.utc),
        state=state,
    )
    kfp.runs[run.run_id] = run


def test_a_time_zone_is_refused_for_kfp_has_but_one():
    assert recurring_runs.to_kfp_cron(parse_cron("0 3 * * *", None)) == CRON
    assert recurring_runs.to_kfp_cron(parse_cron("0 3 * * *", "UTC")) == CRON
    message = (
        "must be UTC for a schedule on a cluster, got 'Europe/Berlin': KFP has one"
    )
    with pytest.raises(ConfigError, match=message):
        recurring_runs.to_kfp_cron(parse_cron("0 3 * * *", "Europe/Berlin"))


def test_a_schedule_has_the_requested_values(kfp, schedule, version):
    recurring_run_id, changed = schedule()
    assert changed
    (run,) = kfp.recurring_runs.values()
    assert run.recurring_run_id == recurring_run_id
    assert (run.display_name, run.mode) == ("vae", "ENABLE")
    assert run.trigger.cron_schedule.cron == CRON
    assert (run.no_catchup, run.max_concurrency) == (True, "1")
    assert run.runtime_config.parameters == {"epochs": 3}
    assert run.runtime_config.pipeline_root == "s3://b/root"
    reference = run.pipeline_version_reference
    assert reference.pipeline_id == version.pipeline_id
    assert reference.pipeline_version_id == version.version_id


def test_the_same_schedule_again_changes_nothing(kfp, schedule):
    first, _ = schedule()
    add_run(kfp, first)  # the active run is no reason for an error either
    before = kfp.writes()
    assert schedule() == (first, False)
    assert kfp.writes() == before


@pytest.mark.parametrize(
    "change", [{"cron": "0 30 4 * * *"}, {"epochs": 4}], ids=["cron", "parameters"]
)
def test_a_change_leaves_one(kfp, schedule, change):
    first, _ = schedule()
    second, changed = schedule(**change)
    assert changed
    assert list(kfp.recurring_runs) == [second] != [first]
    assert kfp.recurring_runs[second].mode == "ENABLE"
    assert kfp.most_enabled == 1


def test_a_paused_schedule_is_enabled(kfp, connection, schedule, version):
    schedule()
    recurring_runs.pause(
        connection,
        recurring_runs.find_by_name(connection, "vae", pipeline_id=version.pipeline_id),
    )
    second, changed = schedule()
    assert changed
    assert kfp.recurring_runs[second].mode == "ENABLE"
    assert len(kfp.recurring_runs) == 1


# The writing requests of a change: POST (create), :disable, :enable, DELETE.
@pytest.mark.parametrize("after", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize(
    ("method", "path", "enabled", "half"),
    [
        ("POST", "recurringruns$", {1}, False),
        ("POST", ":disable$", {0, 1}, True),
        ("POST", ":enable$", {0, 1}, True),
        ("DELETE", "", {1}, True),
    ],
)
def test_the_same_call_repairs_a_failure_at_any_request(
    kfp, schedule, method, path, enabled, half, after
):
    schedule()
    kfp.faults = [Fault(503, 1, method, path, after=after)]
    with pytest.raises(ClusterError, match="answered with 503") as caught:
        schedule(epochs=9)
    advice = "is incomplete, and the schedule may be paused: run the same command again"
    assert (advice in str(caught.value)) == half
    modes = [run.mode for run in kfp.recurring_runs.values()]
    assert modes.count("ENABLE") in enabled
    last, _ = schedule(epochs=9)
    (run,) = kfp.recurring_runs.values()
    assert (run.recurring_run_id, run.mode) == (last, "ENABLE")
    assert run.runtime_config.parameters == {"epochs": 9}
    assert kfp.most_enabled == 1


def test_other_schedules_are_left_alone(kfp, schedule):
    other, _ = schedule(name="vae-weekly")
    schedule()
    mine, _ = schedule(epochs=9)
    assert set(kfp.recurring_runs) == {other, mine}


def test_another_pipelines_schedule_is_not_touched(kfp, schedule):
    schedule()
    (run,) = kfp.recurring_runs.values()
    run.pipeline_version_reference.pipeline_id = "another"
    before = dict(kfp.recurring_runs)
    with pytest.raises(ClusterError, match="belongs to another pipeline: choose"):
        schedule(epochs=9)
    assert kfp.recurring_runs == before


def test_a_running_run_is_not_stopped(kfp, connection, schedule, version):
    first, _ = schedule()
    add_run(kfp, first)
    message = (
        r"the run r1 of the schedule vae is active, .*/#/runs/details/r1\), or stop it"
    )
    with pytest.raises(ClusterError, match=message):
        schedule(epochs=9)
    found = recurring_runs.find_by_name(
        connection, "vae", pipeline_id=version.pipeline_id
    )
    with pytest.raises(ClusterError, match=message):
        recurring_runs.delete(connection, found)
    assert list(kfp.recurring_runs) == [first]
    add_run(kfp, first, "SUCCEEDED")
    schedule(epochs=9)
    assert kfp.deleted_with_runs == []


def test_resuming_one_of_two_is_refused(kfp, connection, schedule, version):
    schedule()
    kfp.faults = [Fault(503, 1, "POST", ":enable$")]
    with pytest.raises(ClusterError):
        schedule(epochs=9)
    found = recurring_runs.find_by_name(
        connection, "vae", pipeline_id=version.pipeline_id
    )
    with pytest.raises(
        ClusterError, match="there are 2 recurring runs named vae, because"
    ):
        recurring_runs.resume(connection, found)
    recurring_runs.delete(connection, found)
    assert kfp.recurring_runs == {}


def call(kfp, tmp_path, *args):
    root = ("--root", str(tmp_path / "runs"))
    return main.main(["schedule", "--host", kfp.url, *root, *args])


def test_the_life_of_a_schedule(kfp, tmp_path, capfd):
    cron = ("--cron", "0 3 * * 7", *FLAGS)
    assert call(kfp, tmp_path, *cron, "--set", "train.epochs=3") == 0
    assert (
        "the schedule vae is set: 0 0 3 * * 0 (seconds first)" in capfd.readouterr().out
    )
    (run,) = kfp.recurring_runs.values()
    assert run.runtime_config.parameters["epochs"] == 3
    assert call(kfp, tmp_path, *cron, "--set", "train.epochs=3") == 0
    assert "the schedule vae was so already" in capfd.readouterr().out

    assert call(kfp, tmp_path, "--list") == 0
    link = f"{kfp.url}/#/recurringrun/details/{run.recurring_run_id}"
    assert f"vae  enabled  0 0 3 * * 0  {link}" in capfd.readouterr().out
    assert call(kfp, tmp_path, "--pause") == 0
    assert "the schedule vae: paused" in capfd.readouterr().out
    assert run.mode == "DISABLE"
    assert call(kfp, tmp_path, "--list") == 0
    assert "vae  paused  " in capfd.readouterr().out
    assert call(kfp, tmp_path, "--resume") == 0
    assert run.mode == "ENABLE"
    assert call(kfp, tmp_path, "--delete") == 0
    assert kfp.recurring_runs == {}
    for action in ("--pause", "--resume", "--delete"):
        assert call(kfp, tmp_path, action, "--name", "none") == 1
        assert "there is no schedule named none: see" in capfd.readouterr().out


def test_one_is_left_though_the_list_has_many_pages(kfp, schedule):
    for number in range(3):
        schedule(name=f"other-{number}")
    kfp.page_limit = 1
    schedule()
    schedule(epochs=9)
    assert len(kfp.of_name("vae")) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--cron", "0 3 * *", *FLAGS), "the cron expression must be five fields"),
        (("--cron", "*/90 * * * *", *FLAGS), "must have a step below the number of"),
        (
            ("--cron", "0 3 * * *", "--timezone", "Mars/Olympus", *FLAGS),
            "the time zone must be a name of the IANA",
        ),
        (("--cron", "0 3 * * *"), "--image must name the image of every step"),
        (FLAGS, "--cron must be given"),
        (
            ("--cron", "0 3 * * *", "--timezone", "CET", *FLAGS),
            "--timezone must be UTC",
        ),
        (("--cron", "0 3 * * *", "--set", "a.b=1", *FLAGS), "unknown setting a.b"),
        (("--local",), "--cron must be given"),
        *(
            (
                ("--cron", "0 3 * * *", "--metrics-port", "9109", *other),
                "--metrics-port must come with --local, got 9109 without: nothing else "
                "stays to serve them; see metrics.textfile",
            )
            for other in (FLAGS, ("--print", "crontab"))
        ),
    ],
)
def test_bad_input_ends_with_2_and_sends_nothing(kfp, tmp_path, capfd, flags, message):
    assert call(kfp, tmp_path, *flags) == 2
    assert message in capfd.readouterr().err
    assert kfp.requests == []


@pytest.mark.parametrize("form", ["systemd", "crontab"])
def test_what_runs_here_without_us_is_printed(form, capsys):
    cron = ["--cron", "0 3 * * *", "--preset", "smoke"]
    assert main.main(["schedule", "--print", form, *cron]) == 0
    printed = capsys.readouterr().out
    assert "03:00:00" in printed or printed.startswith("0 3 * * * ")
    assert "/bin/vae-pipeline run --if-changed --preset smoke" in printed
