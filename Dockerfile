# syntax=docker/dockerfile:1
# One image for every process of the product; docker-compose.yml chooses the command.
# The packages are those of `make up`, from the lock file with its hashes, without the embedded servers.

FROM python:3.11.14-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/analytics
COPY requirements/runtime.lock /tmp/runtime.lock
RUN /opt/analytics/bin/pip install --require-hashes --requirement /tmp/runtime.lock

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/analytics analytics \
    && mkdir -p /var/lib/analytics/dagster /var/lib/analytics/metrics \
    && chown -R analytics:analytics /var/lib/analytics
COPY --from=packages /opt/analytics /opt/analytics
WORKDIR /app
COPY dagster.yaml workspace.yaml ./
COPY sql sql
COPY dbt_models dbt_models
COPY deploy/ingest_alive.py deploy/
COPY analytics_pipeline analytics_pipeline
COPY api api
RUN printf '#!/bin/sh\nexec python -m analytics_pipeline "$@"\n' > /usr/local/bin/analytics \
    && chmod 755 /usr/local/bin/analytics \
    && /opt/analytics/bin/python -m compileall -q analytics_pipeline api \
    && cp dagster.yaml /var/lib/analytics/dagster/dagster.yaml
ENV PATH=/opt/analytics/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    DAGSTER_HOME=/var/lib/analytics/dagster \
    DAGSTER_DISABLE_TELEMETRY=yes \
    DO_NOT_TRACK=1 \
    B25_LOCAL_STACK__STATE_FOLDER=/var/lib/analytics/dagster/state
USER analytics
EXPOSE 9097 9098 9099 3000
ENTRYPOINT ["analytics"]
CMD ["--help"]
