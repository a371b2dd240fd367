"""The line to Redis: a process that has nothing to ask knows of it all the same, and TLS."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import REGISTRY

from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.settings import Redis as RedisSettings
from api import redis_line
from api.redis_line import RedisLine
from tests.integration import conftest
from tests.waiting import wait_for

running = contextmanager(conftest.running)


def test_a_process_without_requests_sees_redis_go_and_come(
    state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_line, "LOOK", 0.05)
    server = Redis(state_folder / "redis-that-goes", port=free_port())

    async def shown() -> float | None:
        await asyncio.sleep(0.01)  # the loop has its turn
        return REGISTRY.get_sample_value("analytics_cache_up", {"service": "api"})

    def seen(wanted: int) -> None:
        wait_for(lambda: runner.run(shown()) == wanted, timeout=20, message=f"analytics_cache_up {wanted}")

    async def listening() -> RedisLine:
        line = RedisLine(
            RedisSettings.model_validate(
                {"host": server.host, "port": server.port, "password": server.password, "timeout": "250ms"}
            )
        )
        line.start()
        return line

    with asyncio.Runner() as runner:
        with running(server.service(), state_folder):
            line = runner.run(listening())
            seen(1)
        seen(0)
        with running(server.service(), state_folder):
            seen(1)
        runner.run(line.close())


def certified(folder: Path, address: str) -> ssl.SSLContext:
    """What a server needs that calls itself by this address; its certificate is `redis.pem`, its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "redis.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "redis.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "redis.pem", folder / "redis.key")
    return context


@asynccontextmanager
async def behind_tls(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port that speaks TLS for one that does not."""

    async def pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(65_536):
            target.write(piece)
            await target.drain()
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pour(reader, inner_writer), pour(inner_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("address", "is_known", "is_there"),
    [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("127.0.0.2", True, False)],
    ids=["as it should be", "of an unknown authority", "of another server"],
)
def test_redis_over_tls_has_to_prove_who_it_is(
    redis_server: Redis, tmp_path: Path, address: str, is_known: bool, is_there: bool
) -> None:
    async def answers() -> tuple[bool, object]:
        async with behind_tls(redis_server.port, certified(tmp_path, address)) as port:
            asked = {"host": "127.0.0.1", "port": port, "password": redis_server.password, "timeout": "5s"}
            authority = {"tls_ca_file": str(tmp_path / "redis.pem")} if is_known else {}
            line = RedisLine(RedisSettings.model_validate({**asked, "tls": True, **authority}))
            try:
                return await line.ping(), await line.ask(lambda client: client.echo("said"))
            finally:
                await line.close()

    assert asyncio.run(answers()) == (is_there, b"said" if is_there else None)
