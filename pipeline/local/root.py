"""The root of local runs: the places of their state."""

import dataclasses
import importlib.resources
import pathlib

from model.files import filesystems
from pipeline.config.loading import PipelineConfig


@dataclasses.dataclass(frozen=True)
class Root:
    """The folder of the state of local runs, and the places in it."""

    path: pathlib.Path

    @property
    def metadata(self) -> pathlib.Path:
        """The SQLite file of ML Metadata."""
        return self.path / "metadata.sqlite"

    @property
    def artifacts(self) -> pathlib.Path:
        """The folder of the steps' outputs."""
        return self.path / "artifacts"

    @property
    def checkpoints(self) -> pathlib.Path:
        """The folder of the checkpoints of trainings that have not completed."""
        return self.path / "checkpoints"

    def destination(self, config: PipelineConfig) -> str:
        """Returns the absolute path, or the URI, of the folder of versions."""
        folder = config.push.versions_in(str(self.path / "serving"))
        return filesystems.local_path(folder) or folder


def schema_file() -> pathlib.Path:
    """Returns the file of the reviewed schema, which all roots share."""
    return pathlib.Path(str(importlib.resources.files("pipeline"))) / "schema.pbtxt"
