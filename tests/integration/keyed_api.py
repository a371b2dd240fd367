"""What tests with keys share: an application that asks for them, and keys of every kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from analytics_pipeline.storage.api_keys import NewKey, create_key, new_key, revoke_key
from analytics_pipeline.storage.connection import connect
from tests.integration.api_support import Api, running, settings_for
from tests.waiting import wait_for

WRONG = "b25_" + "0" * 12 + "_" + "0" * 48


def make_key(database: str, *scopes: str, **more: Any) -> NewKey:
    """Store a key."""
    key = new_key("of a test", scopes, **{"now": datetime.now(UTC), **more})
    with connect(database, name="test") as connection:
        create_key(connection, key)
        connection.commit()
    return key


def expired_key(database: str, *scopes: str) -> NewKey:
    now = datetime.now(UTC)
    return make_key(
        database, *scopes, now=now - timedelta(hours=2), expires_at=now - timedelta(microseconds=1)
    )


def revoked_key(database: str, *scopes: str) -> NewKey:
    key = make_key(database, *scopes)
    revoke(database, key)
    return key


def revoke(database: str, key: NewKey) -> None:
    with connect(database, name="test") as connection:
        revoke_key(connection, key.id)
        connection.commit()


class Client:
    """Sends requests with a key."""

    def __init__(self, api: Api, key: NewKey | str) -> None:
        self.api = api
        self.headers = {"X-API-Key": key if isinstance(key, str) else key.text}

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        answer = self.api.request(method, path, headers=self.headers | more.pop("headers", {}), **more)
        self.api.client.cookies.clear()  # of a session: the next request is somebody else's
        return answer

    def get(self, path: str, expect: int = 200, **parameters: Any) -> Any:
        answer = self.request("GET", path, params=parameters)
        assert answer.status_code == expect, (answer.status_code, answer.text)
        return answer.json()

    def is_known(self) -> bool:
        return self.request("GET", "/api/v1/session").status_code == 200


def client_of(api: Api, database: str, *scopes: str, **more: Any) -> Client:
    """A client with a new key, which the application knows."""
    client = Client(api, make_key(database, *scopes, **more))
    wait_for(client.is_known, timeout=3, message="the key is known")
    return client


@contextmanager
def asking_for_keys(
    database: str, redis: Any = None, *, address: str = "127.0.0.1", security: Any = None
) -> Iterator[Api]:
    """The application with `security.api_key_enabled`, without streams: this client waits for the end of an answer."""
    settings = settings_for(
        database,
        redis,
        security={"api_key_enabled": True, **(security or {})},
        realtime={"enabled": False},
    )
    with running(settings, address=address) as api:
        yield api
