"""The command `compile`."""

import yaml

from pipeline.cli import main


def test_it_writes_the_pipeline_and_shows_its_run_parameters(tmp_path, capfd):
    output = tmp_path / "vae.yaml"
    code = main.main(
        [
            *("compile", "--image", "registry/vae:1", "--output", str(output)),
            *("--root", str(tmp_path / "runs"), "--set", "train.epochs=7"),
            *("--set", "push.destination=s3://models/serving"),
            *("--set", "kubeflow.pipeline_root=s3://models/runs"),
        ]
    )
    printed = capfd.readouterr().out
    assert code == 0, printed
    spec = next(yaml.safe_load_all(output.read_text()))
    defaults = {
        name: parameter["defaultValue"]
        for name, parameter in spec["root"]["inputDefinitions"]["parameters"].items()
    }
    _, _, shown = printed.partition("is for Kubeflow Pipelines v2; its run parameters:")
    pairs = dict(line.strip().split(" = ") for line in shown.strip().splitlines())
    assert pairs == {
        name: value if isinstance(value, str) else f"{value:g}"
        for name, value in defaults.items()
    }
    assert pairs["epochs"] == "7"
    assert "registry/vae:1" in output.read_text()
