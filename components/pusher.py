"""The Pusher step: publishes a blessed model as a version, atomically and once."""

import importlib.metadata
import json
import logging
import math
import pathlib
import platform
import shutil
import tempfile

import tensorflow as tf
from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components import (
    data_gate,
    evaluator,
    infra_check,
    ingest,
    model_scores,
    served_model,
)
from components.datasets import span
from components.evaluation import elbo_fall
from components.evaluation.estimate import SPLIT, Estimate
from components.evaluation.gate_result import GateResult
from components.registry import listing, publish, rolling_back
from components.registry.manifest import (
    MANIFEST,
    Baseline,
    Manifest,
    combine_digests,
    compute_file_digests,
)
from components.registry.signing import SigningSettings

logger = logging.getLogger(__name__)

# Properties of PushedModel, as TFX's own Pusher sets them.
PUSHED_PROPERTY = "pushed"
DESTINATION_PROPERTY = "pushed_destination"
VERSION_PROPERTY = "pushed_version"
REJECTION_PROPERTY = "rejection"  # why a blessed model was not pushed

_STACK = ("tfx", "tensorflow", "tf-keras", "tensorflow-probability", "vae-pipeline")


def read_stack() -> dict[str, str]:
    """Returns the versions of Python and of the packages that affect a model."""
    packages = {name: importlib.metadata.version(name) for name in _STACK}
    return {"python": platform.python_version(), **packages}


@component
def Pusher(  # noqa: N802, a component
    model: InputArtifact[standard_artifacts.Model],
    blessing: InputArtifact[standard_artifacts.ModelBlessing],
    infra_blessing: InputArtifact[standard_artifacts.InfraBlessing],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    scores: InputArtifact[standard_artifacts.Examples],
    baseline: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    data_report: InputArtifact[standard_artifacts.ExampleStatistics],
    pushed_model: OutputArtifact[standard_artifacts.PushedModel],
    destination: Parameter[str],
    provenance: Parameter[str],
    single_writer: Parameter[int],
    signing: Parameter[str] = "{}",
) -> None:
    """Publishes a blessed model; writes the candidate's gate result in any case.

    A model is published if the Evaluator and InfraCheck blessed it, except in three
    cases: the same model is served already; a rollback rejected it; or another version
    is served than the baseline, so that nothing compared the model with that version.

    Args:
      model: the candidate.
      blessing: the Evaluator's gate decision.
      infra_blessing: InfraCheck's gate decision.
      evaluation: the Evaluator's measurements, which go into the manifest.
      scores: the candidate's ELBO of each image, for the standard error of the mean.
      baseline: ServedModel's output, with which the Evaluator compared the candidate.
      examples: Ingest's examples, with the fingerprint and the spans of their data.
      data_report: DataGate's report; its statistics are published with the model, and
        the next run compares its data with them.
      pushed_model: the artifact whose properties get the result of the push, and whose
        folder gets VERDICT.json and, if a version was published, its manifest.
      destination: the folder or URI of the versions.
      provenance: the run key and the settings in JSON, which go into the manifest.
      single_writer: 1 if nobody else pushes to an object store without conditional
        writes, else 0.
      signing: names of the keys that sign and verify versions, as
        SigningSettings.to_json writes them; no key is in it.
    """
    measured = evaluator.read_evaluation(evaluation.uri)
    manifest = Manifest.from_run(
        elbo={
            "elbo": measured.candidate.elbo,
            "reconstruction": measured.candidate.reconstruction,
            "kl": measured.candidate.kl,
            "independent_pixels": measured.independent_pixels,
            "standard_error": _compute_standard_error(scores),
            "unit": "nats per image",
            "split": SPLIT,
            "images": measured.images,
        },
        baseline=_describe_baseline(baseline),
        data_fingerprint=examples.get_string_custom_property(
            ingest.FINGERPRINT_PROPERTY
        ),
        spans=[
            each.to_content()
            for each in span.parse_json(
                examples.get_string_custom_property(ingest.SPANS_PROPERTY)
            )
        ],
        provenance=json.loads(provenance),
        stack=read_stack(),
    )
    estimate = Estimate.from_manifest(manifest)
    if estimate is None:
        raise ValueError(
            f"provenance must have the settings gate and model, got {provenance}"
        )
    version, rejection = None, ""
    if not model_utils.is_model_blessed(blessing):
        logger.info("not pushed: the Evaluator did not bless the model")
    elif not model_utils.is_infra_validated(infra_blessing):
        logger.info("not pushed: InfraCheck did not bless the model")
    else:
        model_dir = path_utils.serving_model_dir(model.uri)
        statistics = pathlib.Path(data_report.uri, data_gate.STATISTICS)
        version, rejection = _push_model(
            model_dir,
            statistics,
            destination=destination,
            manifest=manifest,
            single_writer=bool(single_writer),
            signing=SigningSettings.from_json(signing),
        )
    pushed_model.set_int_custom_property(PUSHED_PROPERTY, int(version is not None))
    if version is not None:
        pushed_model.set_string_custom_property(DESTINATION_PROPERTY, version.path)
        pushed_model.set_string_custom_property(VERSION_PROPERTY, str(version.number))
        # A copy for readers without access to the destination.
        text = json.dumps(version.manifest.content, indent=2)
        pathlib.Path(pushed_model.uri, MANIFEST).write_text(text, encoding="utf-8")
    if rejection:
        pushed_model.set_string_custom_property(REJECTION_PROPERTY, rejection)
    GateResult(
        refusals=tuple(
            _list_refusals(evaluation.uri, infra_blessing, pushed_model=pushed_model)
        ),
        elbo=measured.candidate.elbo,
        baseline_elbo=measured.baseline.elbo if measured.baseline else None,
        estimate=estimate.describe(),
        pushed=version.path if version else None,
        difference=measured.difference,
        independent_pixels=measured.independent_pixels,
    ).write(pushed_model.uri)


def _compute_standard_error(scores: standard_artifacts.Examples) -> float | None:
    """Returns the standard error of the candidate's mean ELBO; None for NaN."""
    scored = model_scores.require_scores(scores)
    error = elbo_fall.compute_mean(scored.elbo).standard_error
    return error if math.isfinite(error) else None


def _list_refusals(
    evaluation: str,
    infra_blessing: standard_artifacts.InfraBlessing,
    *,
    pushed_model: standard_artifacts.PushedModel,
) -> list[str]:
    """Returns a sentence for each reason to refuse the model."""
    reasons = evaluator.list_refusals(evaluation)
    if not model_utils.is_infra_validated(infra_blessing):
        reason = infra_blessing.get_string_custom_property(infra_check.REASON_PROPERTY)
        reasons.append(f"InfraCheck: {reason}")
    if rejection := pushed_model.get_string_custom_property(REJECTION_PROPERTY):
        reasons.append(rejection)
    return reasons


def _push_model(
    model_dir: str,
    statistics: pathlib.Path,
    *,
    destination: str,
    manifest: Manifest,
    single_writer: bool,
    signing: SigningSettings,
) -> tuple[listing.Version | None, str]:
    """Publishes a blessed model, unless it is served already or must not be served.

    Args:
      model_dir: the SavedModel's folder.
      statistics: the file of DataGate's statistics, which is published with the model.
      destination: the folder or URI of the versions.
      manifest: the facts about the model.
      single_writer: whether nobody else pushes to the destination.
      signing: the keys that sign and verify versions.

    Returns:
      The new version, or None; and the reason for refusing the blessed model, or "".
    """
    # TensorFlow's fingerprint of a model. A digest of the files would not do: two
    # exports of the same graph and weights differ in the numbers in functions' names.
    singleprint = tf.saved_model.experimental.read_fingerprint(model_dir).singleprint()
    signer = signing.load_signer(destination)
    verifier = signing.load_verifier(destination)
    current = listing.find_served_version(destination, verifier=verifier)
    if current is not None and current.manifest.singleprint == singleprint:
        logger.info("not pushed: version %d is the same model", current.number)
        return None, ""
    digest = combine_digests(compute_file_digests(model_dir))
    if record := rolling_back.find_rejection(
        destination, digest, singleprint=singleprint
    ):
        reason = f"this model must not be served again: {record.describe()}"
        logger.warning("not pushed: %s", reason)
        return None, reason
    measured = manifest.baseline and manifest.baseline.version
    # publish_version makes this check again. Here it saves the copy.
    if current is not None and current.number != measured:
        return None, _explain_other_version(current, manifest)
    manifest = manifest.with_singleprint(singleprint)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(model_dir, folder, dirs_exist_ok=True)
        target = pathlib.Path(folder, data_gate.SERVED_STATISTICS)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(statistics, target)
        try:
            version = publish.publish_version(
                folder,
                destination=destination,
                manifest=manifest,
                replaces=current.number if current else None,
                rules=publish.PushRules(
                    single_writer=single_writer, signer=signer, verifier=verifier
                ),
            )
        except publish.OvertakenError as error:
            if error.served is None:
                raise  # the served version was removed: the next run decides
            overtaking = listing.find_version(destination, error.served)
            return None, _explain_other_version(overtaking, manifest)
    logger.info("pushed version %d to %s", version.number, version.path)
    return version, ""


def _explain_other_version(current: listing.Version, manifest: Manifest) -> str:
    """Returns why a model is refused that was compared with another version.

    The text is empty if a run with the same run key pushed the served version.

    Args:
      current: the served version.
      manifest: the facts about the model.
    """
    run_key = manifest.run_key  # empty on Kubeflow
    if run_key and current.manifest.run_key == run_key:
        logger.info("not pushed: version %d has the same run key", current.number)
        return ""
    measured = manifest.baseline and manifest.baseline.version
    against = f"version {measured}" if measured else "nothing"
    reason = (
        f"version {current.number} is served now, but this model was compared with "
        f"{against}: the next run compares its model with version {current.number}"
    )
    logger.warning("not pushed: %s", reason)
    return reason


def _describe_baseline(model: standard_artifacts.Model) -> Baseline | None:
    if served_model.has_no_version(model):
        return None
    path = path_utils.serving_model_dir(model.uri)
    return Baseline(
        version=model.get_int_custom_property(served_model.VERSION_PROPERTY),
        digest=combine_digests(compute_file_digests(path)),
    )
