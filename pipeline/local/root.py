"""The root of local runs: the folder of their state."""

import dataclasses
import importlib.resources
import pathlib

from model.files import filesystems
from pipeline.config.loading import PipelineConfig


@dataclasses.dataclass(frozen=True)
class Root:
    """The folder of the state of local runs, and the paths in it."""

    path: pathlib.Path

    @property
    def metadata(self) -> pathlib.Path:
        """Returns the path of ML Metadata's SQLite file."""
        return self.path / "metadata.sqlite"

    @property
    def artifacts(self) -> pathlib.Path:
        """Returns the folder of the steps' outputs."""
        return self.path / "artifacts"

    @property
    def checkpoints(self) -> pathlib.Path:
        """Returns the folder of the checkpoints of unfinished trainings."""
        return self.path / "checkpoints"

    def destination(self, config: PipelineConfig) -> str:
        """Returns the absolute path or the URI of the versions that a run pushes to."""
        # Absolute, because pathlib removes the `./` of a folder such as ./s3:/runs.
        folder = config.push.resolve_versions_folder(
            str(self.path.absolute() / "serving")
        )
        return filesystems.local_path(folder) or folder


def schema_file() -> pathlib.Path:
    """Returns the path of the reviewed schema, which is part of this package."""
    return pathlib.Path(str(importlib.resources.files("pipeline"))) / "schema.pbtxt"
