"""The options that all commands for a cluster share, without a cluster."""

import pytest

from pipeline.cli import cluster_options, main
from pipeline.config.loading import ConfigError, resolve


class Console:
    """A console that keeps its lines."""

    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def test_sections_that_only_local_runs_use_are_named():
    console = Console()
    cluster_options.warn_of_local_settings(resolve("smoke"), console)
    assert console.lines == []
    given = ["notify.command=[notify-me]", "metrics.textfile=/a/b.prom"]
    cluster_options.warn_of_local_settings(resolve("smoke", settings=given), console)
    assert console.lines == [
        "notify: no effect on Kubeflow; only local runs use this section",
        "metrics: no effect on Kubeflow; only local runs use this section",
    ]


@pytest.mark.parametrize("image", [None, ""])
def test_an_image_is_asked_for(image):
    with pytest.raises(ConfigError) as error:
        cluster_options.check_image(image)
    assert str(error.value) == (
        "--image must name the image of every step, such as registry/vae-pipeline:1.0, "
        "got nothing"
    )


@pytest.mark.parametrize("command", ["compile", "submit", "schedule"])
def test_without_an_image_nothing_is_done(command, tmp_path, capsys):
    more = ["--cron", "0 3 * * *"] if command == "schedule" else []
    root = tmp_path / "runs"
    assert main.main([command, "--root", str(root), *more]) == 2
    assert "vae-pipeline: --image must name the image" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.yaml"))


def test_what_the_cluster_does_not_do_is_a_failure(tmp_path, capfd):
    from pipeline.kubeflow.client import ClusterError

    def refuse(console):
        raise ClusterError("GET /apis was answered with 403")

    assert cluster_options.run_on_cluster(str(tmp_path), "submit", act=refuse) == 1
    assert "vae-pipeline: GET /apis was answered with 403\n" in capfd.readouterr().out
    assert list((tmp_path / "logs").glob("submit-*.log"))
