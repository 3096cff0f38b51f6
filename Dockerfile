# Two images from one file: `app` (a venue, or one process of it) and `operator`.
#
#     docker build --target app -t tradsys .
#     docker run --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 tradsys
#
# BASE needs nothing but Python 3.11; BUILD_BASE is the same with a C compiler, Python's headers and venv. Both are
# given by the digest of their index of platforms, so that a build tomorrow begins with what today's began with; the
# tag only says what it is. To follow their fixes, put a newer digest of the same Python beside the tag, in both lines.
# Where an intercepting proxy signs, its certificates come as a build secret: --secret id=ca,src=FILE.
ARG BASE=python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3
ARG BUILD_BASE=python:3.11.15-bookworm@sha256:a8f8fbe1a0edc9e4dddafa64ba73f7e04be7be5ebc23f332362e779e0a2e4e52

FROM ${BUILD_BASE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CACHE_DIR=/var/cache/pip
COPY app/image.lock /src/app/
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    python3 -m venv /opt/build && /opt/build/bin/pip install --quiet --require-hashes -r /src/app/image.lock

# --- app: locked dependencies, the wheel with the messages of app/proto, the compiled order path, the bill of materials -----
FROM tools AS app-build
COPY app/requirements.lock /src/app/
# The lock also holds what builds the wheel; that has no place in an image that runs.
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    python3 -m venv --without-pip /opt/tradsys \
    && /opt/build/bin/pip --python /opt/tradsys/bin/python install --quiet --require-hashes -r /src/app/requirements.lock \
    && /opt/build/bin/pip --python /opt/tradsys/bin/python uninstall --quiet --yes grpcio-tools setuptools
COPY app /src/app
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /src/wheels /src/app \
    && /opt/build/bin/pip --python /opt/tradsys/bin/python install --quiet --no-deps /src/wheels/*.whl
# As `make compile` does; compiled in a copy, because mypyc would read everything that lies beside it.
RUN packages=$(/opt/tradsys/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
    && mkdir /src/compiled && cp -r "$packages/tradsys" /src/compiled/ && cd /src/compiled \
    && { /opt/build/bin/mypyc $(cat /src/app/compiled.txt) >mypyc.log 2>&1 || { cat mypyc.log; exit 1; }; } \
    && rm -rf build && cp --parents $(find . -name '*.so') "$packages/"
RUN /opt/build/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
    --output-file /opt/tradsys/sbom.cdx.json /opt/tradsys/bin/python

# --- operator ---------------------------------------------------------------------------------------------------------
FROM tools AS operator-build
COPY operator/requirements.lock /src/operator/
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    python3 -m venv --without-pip /opt/tradsys \
    && /opt/build/bin/pip --python /opt/tradsys/bin/python install --quiet --require-hashes -r /src/operator/requirements.lock \
    && /opt/build/bin/pip --python /opt/tradsys/bin/python uninstall --quiet --yes setuptools
COPY operator /src/operator
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /src/wheels /src/operator \
    && /opt/build/bin/pip --python /opt/tradsys/bin/python install --quiet --no-deps /src/wheels/*.whl
RUN /opt/build/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
    --output-file /opt/tradsys/sbom.cdx.json /opt/tradsys/bin/python

# --- what both run in: a user without a shell, a root that can be read-only -------------------------------------------
FROM ${BASE} AS runtime
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tradsys
# LOGNAME: a process may run under a uid that no passwd file knows, and libraries ask for its name.
ENV PATH=/opt/tradsys/bin:/usr/local/bin:/usr/bin:/bin LOGNAME=tradsys PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

FROM runtime AS operator
COPY --from=operator-build /opt/tradsys /opt/tradsys
USER 10001:10001
ENTRYPOINT ["python", "-m", "tradsys_operator"]
CMD ["run"]

# The last target is what `docker build` makes when none is named.
FROM runtime AS app
RUN install --directory --owner=10001 --group=10001 --mode=0750 /data
COPY --from=app-build /opt/tradsys /opt/tradsys
# Inside a container every listener must be reachable from outside; who may come is decided by whoever runs it.
ENV TRADSYS_HOST=0.0.0.0 TRADSYS_DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 8000 8001 8002 50051
ENTRYPOINT ["tradsys"]
CMD ["run"]
