"""Packages, dependencies and the console script.

Two stacks, one code (see docs/explanation/two-stacks.md): TFX 1.17 and later need
wheels that exist only for glibc 2.39, so an older host gets TFX 1.16 on Python 3.10.
`requirements.lock` pins both with hashes; `make lock` makes it from this file.
"""

import setuptools

COMPATIBLE = "python_version < '3.11'"
CURRENT = "python_version >= '3.11'"

setuptools.setup(
    name="vae-pipeline",
    version="0.1.0",
    description="Train, gate and ship a variational autoencoder with TFX and TFP.",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=setuptools.find_packages(
        include=[
            name
            for package in ("pipeline", "components", "model")
            for name in (package, f"{package}.*")
        ]
    ),
    package_data={
        "components.reporting": ["report.html.jinja"],
        "pipeline": ["commit.txt", "schema.pbtxt", "presets/*.yaml"],
    },
    entry_points={"console_scripts": ["vae-pipeline = pipeline.__main__:main"]},
    install_requires=[
        f"tfx==1.16.0; {COMPATIBLE}",
        f"tfx>=1.21,<1.22; {CURRENT}",
        f"tensorflow>=2.16.1,<2.17; {COMPATIBLE}",
        f"tensorflow>=2.21,<2.22; {CURRENT}",
        f"tf-keras>=2.16,<2.17; {COMPATIBLE}",
        f"tf-keras>=2.21,<2.22; {CURRENT}",
        f"tensorflow-probability==0.24.0; {COMPATIBLE}",
        f"tensorflow-probability==0.25.0; {CURRENT}",
        f"kfp==2.5.0; {COMPATIBLE}",
        f"kfp>=2.14,<2.17; {CURRENT}",
        # tfx-bsl 1.16 imports dill, which Beam no longer brings since 2.69.
        f"dill; {COMPATIBLE}",
        # TFX, TensorFlow and kfp choose the versions of these.
        "apache-beam",
        "kfp-server-api",
        "ml-metadata",
        "numpy",
        "protobuf",
        "tensorflow-data-validation",
        "tensorflow-metadata",
        "tensorflow-model-analysis",
        # tensorflow-hub imports pkg_resources, which setuptools 81 removed.
        "setuptools<81",
        "click>=8.4",
        # `serve`'s HTTP server.
        "aiohttp>=3.9",
        "apscheduler>=3.10,<4",
        # 2.8 needs Python 3.11.
        "cronsim>=2.7,<3",
        "tensorflow-datasets>=4.9",
        # tensorflow-datasets imports it, but asks for it only below Python 3.11.
        "importlib-resources",
        "filelock>=3.12",
        # The checksums of TFRecords.
        "google-crc32c>=1.5",
        # The push destination, wherever it is.
        "fsspec>=2024.6",
        "gcsfs>=2024.6",
        "s3fs>=2024.6",
        # The report's page and its pictures.
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "pillow>=10",
        "prometheus-client>=0.20",
        "pydantic>=2",
        "pyyaml>=6",
        "requests>=2.32.2",
        "rich>=13",
        # Student's t, for the gate's confidence intervals.
        "scipy>=1.10",
        # The signatures of versions.
        "cryptography>=42",
        "securesystemslib>=1.1",
        # `notify`'s attempts.
        "tenacity>=8",
        # The local time zone's name, for schedules.
        "tzlocal>=5",
        # TensorFlow 2.21 no longer requires it; releases before 2.20 need NumPy 1.
        f"tensorboard>=2.16,<2.17; {COMPATIBLE}",
        f"tensorboard>=2.20; {CURRENT}",
        "urllib3",
    ],
    extras_require={
        "dev": [
            "boto3",
            "cyclonedx-bom>=4",
            "docker",
            # An S3 server for the tests: the parts of moto[server] that S3 takes.
            "flask",
            "flask-cors",
            "furo",
            "import-linter",
            "kubernetes-validate",
            # A second implementation, which verifies signatures of versions.
            f"model-signing>=1.1; {CURRENT}",
            "moto[s3]>=5",
            "mypy",
            "myst-parser",
            "packaging",
            "pip-audit",
            # model-signing imports it, but does not ask for it.
            f"pyopenssl; {CURRENT}",
            "pytest",
            "pytest-xdist",
            "ruff",
            "scikit-learn",
            "sphinx",
            "types-PyYAML",
            "types-requests",
            "uv",
            "werkzeug",
        ],
    },
)
