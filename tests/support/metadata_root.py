"""A root with metadata of runs, written as TFX writes them."""

import json
import os

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from components.registry import listing
from components.registry.manifest import Manifest
from pipeline.local import unused_artifacts
from tests.support.places import FILES, write_model
from tests.support.pushes import push_next

COMPLETE, CACHED = mlmd.Execution.COMPLETE, mlmd.Execution.CACHED
FAILED, RUNNING = mlmd.Execution.FAILED, mlmd.Execution.RUNNING
NAME = "run-20260101-0000{:02}-000000"


class MetadataRoot:
    """A root with metadata of runs, written as TFX writes them."""

    def __init__(self, path):
        self.path = path
        self.destination = str(path / "serving" / "vae")
        (path / "logs").mkdir(parents=True)
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(path / "metadata.sqlite")
        config.sqlite.connection_mode = 3  # READWRITE_OPENCREATE
        self.store = metadata_store.MetadataStore(config)
        self._runs = 0

    def run(self, *steps, key=None, log=True):
        """Writes a run of steps, each (name, state, inputs); returns the outputs.

        The inputs of a step, and the output of a CACHED step, are outputs of other
        steps. A FAILED or RUNNING step leaves a folder that is not in the metadata.
        """
        self._runs += 1
        name = NAME.format(self._runs)
        if log:
            for ending in ("log", "yaml"):
                (self.path / "logs" / f"{name}.{ending}").write_text("x" * 1000)
        kind = mlmd.ContextType(name="pipeline_run")
        run = mlmd.Context(type_id=self.store.put_context_type(kind), name=name)
        [run.id] = self.store.put_contexts([run])
        outputs = []
        for step, state, *inputs in steps:
            kind = mlmd.ExecutionType(name=f"components.of.{step}")
            execution = mlmd.Execution(type_id=self.store.put_execution_type(kind))
            execution.last_known_state = state
            if key:
                text = json.dumps({"run_key": key})
                execution.custom_properties["provenance"].string_value = text
            [execution.id] = self.store.put_executions([execution])
            association = mlmd.Association(execution_id=execution.id, context_id=run.id)
            self.store.put_attributions_and_associations([], [association])
            out = inputs.pop() if state == CACHED else None
            folder = self.path / "artifacts" / step / "out" / str(execution.id)
            if state != CACHED:
                folder.mkdir(parents=True)
                (folder / "data").write_bytes(bytes(1_000_000))
            if state == COMPLETE:
                kind = mlmd.ArtifactType(name="Out")
                out = mlmd.Artifact(type_id=self.store.put_artifact_type(kind))
                out.uri, out.state = str(folder), mlmd.Artifact.LIVE
                [out.id] = self.store.put_artifacts([out])
            for one in inputs:
                self._event(execution, one, mlmd.Event.INPUT)
            if out is not None:
                self._event(execution, out, mlmd.Event.OUTPUT)
            outputs.append(out)
        return outputs

    def _event(self, execution, artifact, kind):
        event = mlmd.Event(
            execution_id=execution.id, artifact_id=artifact.id, type=kind
        )
        self.store.put_events([event])

    def whole_run(self, key=None):
        """Writes a run whose Trainer and Pusher completed; returns their outputs."""
        trainer, pusher = self.run(("Trainer", COMPLETE), ("Pusher", COMPLETE), key=key)
        return trainer, pusher

    def push(self, name, **manifest):
        files = {**FILES, "saved_model.pb": name.encode()}
        model = write_model(self.path.parent / "models" / name, files)
        return push_next(
            model,
            destination=self.destination,
            manifest=Manifest.from_content(manifest),
        )

    def prune(self, keep):
        todo = unused_artifacts.plan(self.path, self.destination, keep=keep)
        unused_artifacts.execute_plan(self.path, todo)
        return todo

    def live(self, artifact):
        """Returns whether an artifact is live; asserts that metadata and disk agree."""
        [found] = self.store.get_artifacts_by_id([artifact.id])
        live = found.state == mlmd.Artifact.LIVE
        assert live == os.path.exists(artifact.uri)
        return live

    def numbers(self):
        return [found.number for found in listing.list_versions(self.destination)]

    def snapshot(self):
        files = {
            str(path): path.read_bytes()
            for path in self.path.rglob("*")
            if path.is_file() and not path.name.endswith((".lock", "sqlite"))
        }
        return files, sorted(
            (artifact.id, artifact.state) for artifact in self.store.get_artifacts()
        )
