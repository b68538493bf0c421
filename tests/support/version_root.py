"""A root with pushed versions, and the output of commands on it."""

from components.registry.manifest import Manifest
from pipeline.cli import main
from pipeline.config.loading import decisive, resolve
from tests.support.places import FILES, write_model
from tests.support.pushes import push_next


class VersionRoot:
    """A root with versions, and the output of the last command on it."""

    def __init__(self, path, capsys):
        self.path, self._capsys = path, capsys
        self.destination = str(path / "runs" / "serving" / "vae")
        self.out = self.err = ""

    def command(self, *arguments):
        """Runs a command on the root; returns its exit code."""
        root = ["--root", str(self.path / "runs")]
        code = main.main([*map(str, arguments), *root])
        self.out, self.err = self._capsys.readouterr()
        return code

    def push(self, name, elbo, destination=None, samples=4, signing=None):
        """Pushes a model of 0.1 MB with an ELBO in nats; returns the version.

        It is signed if `signing` is given, which is a SigningSettings.
        """
        files = {**FILES, "saved_model.pb": name.encode() * 50_000}
        model = write_model(self.path / "models" / name, files)
        config = decisive(resolve("demo", settings=[f"gate.samples={samples}"]))
        manifest = {
            "elbo": {"elbo": elbo, "independent_pixels": -206.125, "images": 10_000},
            "data_fingerprint": "0123456789abcdef",
            "config": config,
        }
        return push_next(
            model,
            destination=destination or self.destination,
            manifest=Manifest.from_content(manifest),
            signer=signing and signing.load_signer(destination or self.destination),
        )
