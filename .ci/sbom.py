"""The software bill of materials of an image, in CycloneDX: Python and Debian packages.

    sbom.py PYTHON DPKG FILE

PYTHON is the interpreter of the environment whose packages are listed. DPKG is the
folder of dpkg's status file. FILE is the JSON file to write.
"""

import json
import pathlib
import subprocess
import sys


def debian_packages(dpkg: str) -> list[dict[str, str]]:
    """Returns a CycloneDX component for each Debian package in dpkg's status file."""
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
    """Writes the bill of materials of an environment and of Debian to a JSON file."""
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
