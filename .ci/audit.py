"""The audit of the locked packages for known vulnerabilities.

    make audit

It checks the packages of both stacks and of the CUDA image. The exit code is 1 if a
package is vulnerable or a lock cannot be audited. If the database cannot be reached, a
line says so and the exit code is 0.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parents[1]
LOCKS = {
    "the compatible stack": ("requirements.lock", "3.10"),
    "the current stack": ("requirements.lock", "3.13"),
    "the CUDA libraries": ("requirements-gpu.lock", "3.13"),
}


def blocks(lock: str) -> list[str]:
    """Returns the requirements of a lock file, each with the lines of its hashes."""
    found: list[str] = []
    for line in lock.splitlines():
        if line and line[0] not in " #":
            found.append(line)
        elif line.strip().startswith("--hash"):
            found[-1] += f"\n{line}"
    return found


def for_python(lock: str, python: str) -> str:
    """Returns the requirements whose markers match a version of Python, with hashes.

    Args:
      lock: the text of a lock file.
      python: the version, such as `3.10`.
    """
    environment = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    kept = []
    for block in blocks(lock):
        named, *hashes = block.replace("\\\n", "\n").split("\n")
        marker = Requirement(named.rstrip(" \\")).marker
        if marker is None or marker.evaluate(environment):
            name = named.partition(";")[0].rstrip(" \\")
            kept.append(" \\\n".join([name, *(text.strip() for text in hashes)]))
    return "\n".join(kept) + "\n"


def audit(requirements: str) -> list[dict]:
    """Returns pip-audit's result for each package of a requirements text.

    Raises:
      RuntimeError: pip-audit failed; the message is the end of its error output.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip_audit", "--requirement", file.name),
                *("--require-hashes", "--disable-pip", "--progress-spinner=off"),
                *("--format=json", "--desc=off"),
            ],
            capture_output=True,
            encoding="utf-8",
        )
    try:
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError) as error:
        raise RuntimeError(done.stderr.strip()[-2000:]) from error


def report(title: str, packages: list[dict]) -> tuple[list[str], bool]:
    """Returns the lines about one stack, and whether no package is vulnerable."""
    skipped = [package for package in packages if "skip_reason" in package]
    vulnerable = [package for package in packages if package.get("vulns")]
    lines = [
        f"{title}: {package['name']} {package['version']} has {vulnerability['id']}"
        f"; fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in vulnerable
        for vulnerability in package["vulns"]
    ]
    looked_up = len(packages) - len(skipped)
    lines.append(
        f"{title}: {looked_up} of {len(packages)} packages checked, "
        f"{len(vulnerable)} vulnerable"
    )
    if packages and not looked_up:
        lines[-1] = (
            f"{title}: NOT AUDITED: the database has answered for none of the "
            f"{len(packages)} packages; check the network connection"
        )
    return lines, not vulnerable


def main() -> int:
    """Audits all locks, prints the results and returns the exit code."""
    good = True
    for title, (lock, python) in LOCKS.items():
        try:
            packages = audit(
                for_python((ROOT / lock).read_text(encoding="utf-8"), python)
            )
        except RuntimeError as error:
            print(f"{title}: NOT AUDITED: {error}")
            good = False
            continue
        lines, clean = report(title, packages)
        print("\n".join(lines), flush=True)
        good = good and clean
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
