"""Writes an image's software bill of materials, in CycloneDX: Python's and Debian's.

    sbom.py PYTHON DPKG FILE

PYTHON is the interpreter of the environment whose packages are to be listed, DPKG the
folder with dpkg's status file.
"""

import json
import pathlib
import subprocess
import sys


def debian_packages(dpkg: str) -> list[dict[str, str]]:
    """Returns a CycloneDX component for each package that dpkg has installed."""
    listed = subprocess.run(
        [
            *("dpkg-query", f"--admindir={dpkg}", "--show"),
            "--showformat=${Package}\t${Version}\t${Architecture}\n",
        ],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    ).stdout
    components = []
    for line in listed.splitlines():
        name, version, architecture = line.split("\t")
        purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}"
        components.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "purl": purl,
            }
        )
    return components


def main(python: str, dpkg: str, file: str) -> None:
    """Writes the bill of materials."""
    tool = pathlib.Path(sys.executable).with_name("cyclonedx-py")
    made = subprocess.run(
        [tool, "environment", "--output-reproducible", "--short-PURLs", python],
        stdout=subprocess.PIPE,
        check=True,
    )
    bill = json.loads(made.stdout)
    bill["components"] += debian_packages(dpkg)
    pathlib.Path(file).write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
