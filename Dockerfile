# pop3-sync-proxy in a container. Docker, Podman and Buildah build it alike:
#
#   docker build --tag pop3-sync-proxy .
#   docker run --rm --publish 995:1995 --volume mail:/data --volume keys:/keys \
#     --env POP3_SYNC_UPSTREAM__HOST=pop.example.com pop3-sync-proxy
#
# config/docker/compose.yaml is the whole of it, with Prometheus and Grafana.

FROM python:3.13-slim-trixie AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# What we depend on comes first, and only as pinned: a change of our own code does not fetch it anew.
COPY requirements/build.txt requirements/run.txt requirements/
RUN python -m venv --without-pip /opt/pop3-sync-proxy \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --requirement requirements/build.txt \
    && /opt/build/bin/pip --python /opt/pop3-sync-proxy/bin/python install \
        --require-hashes --only-binary :all: --requirement requirements/run.txt

COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
RUN /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/pop3-sync-proxy/bin/python install \
        --no-index --no-deps dist/*.whl


FROM python:3.13-slim-trixie

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="pop3-sync-proxy" \
      org.opencontainers.image.description="A POP3 proxy for several computers and one mailbox" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT"

COPY --from=build /opt/pop3-sync-proxy /opt/pop3-sync-proxy

# Any user may write here, so that `--user` can be whoever owns what is mounted over it. Nobody but
# this one program is in the container, and it makes its own folders for itself alone.
RUN install --directory --mode=1777 /data /keys

# What depends on being in a container, and therefore comes before a mounted
# /etc/pop3-sync-proxy/proxy.toml. The ports are above 1024: below, engines differ in who may listen.
# Port 1110 takes logins only after STLS, as clients never come from the container's own loopback.
# (The linter takes the name of a file for a secret.)
# hadolint ignore=DL3064
ENV PATH=/opt/pop3-sync-proxy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    POP3_SYNC_DATA_DIR=/data \
    POP3_SYNC_SECRETS__KEY_FILE=/keys/proxy.key \
    POP3_SYNC_POP3__LISTEN=0.0.0.0:1110 \
    POP3_SYNC_POP3__LISTEN_TLS=0.0.0.0:1995 \
    POP3_SYNC_HTTP__LISTEN=0.0.0.0:9110

# Mail with STLS, mail with TLS from the first byte, metrics and health. Publish the last one to
# nobody but Prometheus: it asks for no login.
EXPOSE 1110 1995 9110

# The mail, and the key that encrypts kept passwords; apart, so that no backup has both by accident.
VOLUME ["/data", "/keys"]

# By number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 10110:10110
WORKDIR /data
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os, sys; \
port = int(os.environ['POP3_SYNC_HTTP__LISTEN'].rpartition(':')[2]); \
door = http.client.HTTPConnection('127.0.0.1', port, timeout=8); \
door.request('GET', '/readyz'); \
sys.exit(door.getresponse().status != 200)"]

# No shell between: signals go to the program.
ENTRYPOINT ["pop3-sync-proxy"]
CMD ["serve"]
