# Loam's two images:  --target operator (watches the cluster; no torch)
#                     --target runtime  (what a job's Ray pods run)
# BASE_IMAGE: any Debian or Ubuntu with python3 (3.11 or newer), its venv module, and ca-certificates.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# --- tools of the build, which neither image keeps ---------------------------------------------
FROM ${BASE_IMAGE} AS tools
COPY requirements-uv.txt /tmp/
RUN python3 -m venv /opt/tools \
 && /opt/tools/bin/python -m pip install -q --no-cache-dir --require-hashes -r /tmp/requirements-uv.txt
ENV PATH=/opt/tools/bin:$PATH UV_SYSTEM_CERTS=1

FROM tools AS loam
COPY requirements.txt /tmp/
RUN awk '/^[a-z]/ {wanted = /^setuptools==/} wanted' /tmp/requirements.txt > /tmp/setuptools.txt \
 && uv venv -q /tmp/build \
 && uv pip install -q --python /tmp/build/bin/python --require-hashes -r /tmp/setuptools.txt
COPY pyproject.toml README.md LICENSE /src/
COPY crds /src/crds
COPY operator /src/operator
COPY runtime /src/runtime
RUN uv build -q --wheel --no-build-isolation --python /tmp/build/bin/python -o /dist /src \
 && uv venv -q /opt/loam \
 && uv pip install -q --python /opt/loam/bin/python --offline --no-deps --compile-bytecode /dist/*.whl

# --- what both images share --------------------------------------------------------------------
FROM ${BASE_IMAGE} AS base
# KubeRay starts Ray through a login shell, which sets PATH anew.
RUN echo 'PATH=/opt/loam/bin:$PATH' > /etc/profile.d/loam.sh
ENV PATH=/opt/loam/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /tmp

# Packages first, Loam last: a changed line of Loam does not move gigabytes. All is compiled here,
# once: a container may not write into its image, and Ray starts Python a dozen times in each pod.
FROM base AS operator
COPY requirements-operator.txt /opt/loam/
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=cache,id=uv,target=/var/cache/uv \
    /opt/tools/bin/uv venv -q --allow-existing /opt/loam \
 && UV_SYSTEM_CERTS=1 UV_LINK_MODE=copy /opt/tools/bin/uv pip install -q --python /opt/loam/bin/python \
      --cache-dir /var/cache/uv --require-hashes -r /opt/loam/requirements-operator.txt
RUN /opt/loam/bin/python -m compileall -qq -j 0 /opt/loam/lib || true  # some files are templates
COPY --from=loam /opt/loam /opt/loam
# Python asks for the user's name, and this number, or another that a cluster sets, has none.
ENV USER=loam
USER 65532:65532
ENTRYPOINT ["python", "-m", "loam_operator"]

FROM base AS runtime
COPY requirements-runtime.txt /opt/loam/
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=cache,id=uv,target=/var/cache/uv \
    /opt/tools/bin/uv venv -q --allow-existing /opt/loam \
 && UV_SYSTEM_CERTS=1 UV_LINK_MODE=copy /opt/tools/bin/uv pip install -q --python /opt/loam/bin/python \
      --cache-dir /var/cache/uv --require-hashes -r /opt/loam/requirements-runtime.txt
RUN /opt/loam/bin/python -m compileall -qq -j 0 /opt/loam/lib || true  # some files are templates
COPY --from=loam /opt/loam /opt/loam
ENV USER=loam
USER 65532:65532
