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
        self.node_type = self.store.put_context_type(
            metadata_store_pb2.ContextType(name="node")
        )

    def add(self, name, steps, types=None):
        """Adds a run to the metadata, with the state of each of its steps.

        Args:
          name: the run's name.
          steps: the state of each step, by its name in the graph.
          types: the name of a step's type, by step, if it is not the step's name.
        """
        run = metadata_store_pb2.Context(type_id=self.run_type, name=name)
        (context,) = self.store.put_contexts([run])
        for step, state in steps.items():
            of_type = (types or {}).get(step, step)
            kind = self.store.put_execution_type(
                metadata_store_pb2.ExecutionType(
                    name=f"components.{of_type.lower()}.{of_type}"
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
                    ),
                    self._find_node(step),
                ],
            )

    def _find_node(self, step):
        """Returns TFX's context of a step, which all its executions have."""
        node = metadata_store_pb2.Context(type_id=self.node_type, name=f"vae.{step}")
        known = self.store.get_context_by_type_and_name("node", node.name)
        if known is None:
            (node.id,) = self.store.put_contexts([node])
            return node
        return metadata_store_pb2.Context(
            id=known.id, type_id=self.node_type, name=node.name
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
