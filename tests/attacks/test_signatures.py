"""Attacks by somebody who can write to the destination, but has not the key."""

import json
import pathlib
import shutil

import pytest

from components.registry.manifest import Manifest
from tests.support import places
from tests.support.pushes import push_next
from tests.support.signing_keys import write_pair

pytestmark = pytest.mark.attacks


def _change_elbo(signed: pathlib.Path, forged: pathlib.Path) -> None:
    shutil.copytree(signed, forged)
    content = json.loads((forged / "MANIFEST.json").read_bytes())
    content["elbo"] = {"elbo": 0.0}
    (forged / "MANIFEST.json").write_text(json.dumps(content), encoding="utf-8")


def _replay(signed: pathlib.Path, forged: pathlib.Path) -> None:
    shutil.copytree(signed, forged)


def _remove_signature(signed: pathlib.Path, forged: pathlib.Path) -> None:
    shutil.copytree(signed, forged)
    (forged / "model.sig").unlink()


@pytest.mark.line("version that the key did not sign")
@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (_change_elbo, "it was signed as version"),
        (_replay, "it was signed as version"),
        (_remove_signature, "it has no model.sig that is a regular file"),
    ],
)
def test_a_forged_version_is_not_served(attack, tmp_path, forge, why):
    pair = write_pair(tmp_path / "keys", "key")
    destination = tmp_path / "runs" / "serving" / "vae"
    version = push_next(
        places.write_model(tmp_path / "model"),
        destination=str(destination),
        manifest=Manifest.from_content({"elbo": {"elbo": -90.0}}),
        signer=pair.load_signer(str(destination)),
    )
    forge(pathlib.Path(version.path), destination / "2000000000")
    outcome = attack(
        *("versions", "--json", "--root", tmp_path / "runs"),
        *("--set", f"push.verify={pair.verify}"),
    )
    assert outcome.code == 0
    forged, signed = json.loads(outcome.out)
    assert (forged["state"], signed["state"]) == ("damaged", "served")
    assert forged["damage"].startswith(why)
