"""The audit of dependencies: what it reads from a lock file, and its output."""

import importlib.util
import pathlib

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / ".ci" / "audit.py"

pytestmark = pytest.mark.skipif(
    not SCRIPT.exists(), reason="the image holds no developers' tools"
)

LOCK = """\
arrow==1.4.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via kfp
contourpy==1.3.2 ; python_full_version < '3.11' \\
    --hash=sha256:cc
    # via matplotlib
contourpy==1.4.0 ; python_full_version >= '3.12' \\
    --hash=sha256:dd
"""


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("python", "version", "digest"), [("3.10", "1.3.2", "cc"), ("3.13", "1.4.0", "dd")]
)
def test_each_stack_has_its_own_versions(audit, python, version, digest):
    assert audit.for_python(LOCK, python) == (
        "arrow==1.4.0 \\\n--hash=sha256:aa \\\n--hash=sha256:bb\n"
        f"contourpy=={version} \\\n--hash=sha256:{digest}\n"
    )


def test_every_package_of_the_locks_has_a_hash(audit):
    for lock, python in audit.LOCKS.values():
        text = audit.for_python((audit.ROOT / lock).read_text(), python)
        blocks = audit.blocks(text.replace("\n--hash", "\n    --hash"))
        assert len(blocks) > 10
        assert all("--hash=sha256:" in block for block in blocks)


def test_a_known_vulnerability_is_named(audit):
    packages = [
        {"name": "arrow", "version": "1.4.0", "vulns": []},
        {
            "name": "idna",
            "version": "3.6",
            "vulns": [{"id": "PYSEC-2024-60", "fix_versions": ["3.7"]}],
        },
    ]
    lines, clean = audit.report("the current stack", packages)
    assert not clean
    assert lines == [
        "the current stack: idna 3.6 has PYSEC-2024-60; fixed in 3.7",
        "the current stack: 2 of 2 packages checked, 1 vulnerable",
    ]


def test_an_unreachable_database_is_reported_without_a_failure(audit):
    packages = [{"name": "arrow", "version": "1.4.0", "skip_reason": "not found"}]
    lines, clean = audit.report("the current stack", packages)
    assert clean
    assert lines == [
        "the current stack: NOT AUDITED: the database has answered for none of the 1 "
        "packages; check the network connection"
    ]


def test_what_pip_audit_cannot_read_is_an_error(audit):
    with pytest.raises(RuntimeError, match="not a requirement"):
        audit.audit("not a requirement\n")
