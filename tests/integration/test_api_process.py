"""The process itself: granian, the two small servers beside it, start, stop, and ports that are taken."""

import json
import signal
import socket

import httpx
import psutil
import psycopg
import pytest

from tests.integration.api_process import started
from tests.waiting import wait_for


def test_three_ports_and_an_orderly_stop(database: str) -> None:
    with started(database) as process:
        wait_for(lambda: process.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
        for port in ("SERVER", "HEALTH"):
            for path in ("/health", "/healthz", "/ready"):
                status, body = process.ask(port, path)
                content = json.loads(body)
                assert (status, content["status"], content["service"]) == (200, "healthy", "analytics")
                assert content.keys() == {"status", "database", "cache", "service", "timestamp"}
        assert process.ask("HEALTH", "/api/v1/events")[0] == 404
        assert process.ask("SERVER", "/api/v1/dashboard/metrics")[0] == 200
        status, series = process.ask("METRICS", "/metrics")
        assert status == 200
        for name in (
            "analytics_query_duration_seconds", "analytics_cache_hits_total", "analytics_cache_misses_total",
            "analytics_http_requests_total",
        ):  # fmt: skip
            assert name in series
        assert 'route="/api/v1/dashboard/metrics",status="200"' in series

        # The health port answers for the API, not for itself.
        [worker] = [
            child
            for child in psutil.Process(process.running.pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        ]
        worker.kill()
        wait_for(lambda: process.ask("HEALTH", "/ready")[0] == 503, timeout=10, message="503")
        wait_for(lambda: process.ask("HEALTH", "/ready")[0] == 200, timeout=40, message="a new worker")

        process.running.send_signal(signal.SIGTERM)
        assert process.running.wait(20) == 0


@pytest.mark.slow
def test_ports_of_0_are_free_ones_that_the_log_tells(database: str) -> None:
    told: dict[str, int] = {}
    ports = {f"B25_{name}__PORT": "0" for name in ("SERVER", "METRICS", "HEALTH")}
    with started(database, B25_LOGGING__FORMAT="json", **ports) as process:
        assert process.running.stderr is not None
        while len(told) < 3:  # the process ends, or pytest's time does, where they are never told
            line = process.running.stderr.readline()
            assert line, "it ended"
            if line.startswith("{") and "setting" in (content := json.loads(line)):
                told[content["setting"].removesuffix(".port").upper()] = content["port"]
        process.ports.update(told)
        wait_for(lambda: process.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
        assert process.ask("HEALTH", "/ready")[0] == 200
        assert process.ask("METRICS", "/metrics")[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize("port", ["SERVER", "METRICS", "HEALTH"])
def test_a_port_in_use_is_one_clear_sentence(database: str, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with started(database, **{f"B25_{port}__PORT": str(number)}) as process:
            assert process.running.wait(40) == 3
            _, errors = process.running.communicate()
    assert str(number) in errors
    assert f"{port.lower()}.port" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_it_refuses_to_serve_everybody(database: str) -> None:
    with started(database, B25_SERVER__HOST="0.0.0.0") as process:
        assert process.running.wait(40) == 2
        _, errors = process.running.communicate()
    assert "server.host" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_stream_that_fails_midway_does_not_look_whole(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection, started(database) as process:
        connection.execute(
            "INSERT INTO events (event_type, properties, timestamp)"
            " SELECT 'a', jsonb_build_object('x', repeat('x', 500)), now() - interval '1 hour'"
            " FROM generate_series(1, 30000)"
        )
        wait_for(lambda: process.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
        url = f"http://127.0.0.1:{process.ports['SERVER']}/api/v1/events?format=ndjson"
        with httpx.stream("GET", url, timeout=30) as whole:
            assert sum(chunk.count(b"\n") for chunk in whole.iter_bytes()) == 30_000
        with httpx.stream("GET", url, timeout=30) as broken:
            chunks = broken.iter_bytes()
            next(chunks)
            connection.execute("ALTER TABLE events RENAME TO elsewhere")
            with pytest.raises(httpx.RemoteProtocolError):
                list(chunks)
        assert process.ask("SERVER", "/ready")[0] == 200
