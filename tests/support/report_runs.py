"""Runs with a report, written to metadata as TFX writes them."""

import json

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

COMPLETE = metadata_store_pb2.Execution.COMPLETE
CACHED = metadata_store_pb2.Execution.CACHED
FAILED = metadata_store_pb2.Execution.FAILED


class Runs:
    """A root to whose metadata a test can add runs.

    Args:
      path: the root.
      facts: what the Report step of each run writes.
      picture: the PNG of the reconstructed digits that the step writes.
    """

    def __init__(self, path, *, facts, picture):
        self.path, self.facts, self.picture = path, facts, picture
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(path / "metadata.sqlite")
        config.sqlite.connection_mode = 3  # READWRITE_OPENCREATE: creates the file
        self.store = metadata_store.MetadataStore(config)
        self.run_type = self.store.put_context_type(
            metadata_store_pb2.ContextType(name="pipeline_run")
        )

    def add(self, name, steps):
        """Adds a run to the metadata, with the state of each of its steps."""
        run = metadata_store_pb2.Context(type_id=self.run_type, name=name)
        (context,) = self.store.put_contexts([run])
        for step, state in steps.items():
            kind = self.store.put_execution_type(
                metadata_store_pb2.ExecutionType(
                    name=f"components.{step.lower()}.{step}"
                )
            )
            execution = metadata_store_pb2.Execution(
                type_id=kind, last_known_state=state
            )
            outputs = [self._metrics()] if step == "Report" and state != FAILED else []
            self.store.put_execution(
                execution,
                outputs,
                [
                    metadata_store_pb2.Context(
                        id=context, type_id=self.run_type, name=name
                    )
                ],
            )

    def _metrics(self):
        folder = self.path / "artifacts" / "Report" / "metrics" / "13"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(self.facts))
        (folder / "rebuilt.png").write_bytes(self.picture)
        kind = self.store.put_artifact_type(
            metadata_store_pb2.ArtifactType(name="Metrics")
        )
        event = metadata_store_pb2.Event(type=metadata_store_pb2.Event.OUTPUT)
        event.path.steps.add().key = "metrics"
        return metadata_store_pb2.Artifact(type_id=kind, uri=str(folder)), event
