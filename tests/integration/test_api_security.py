"""Keys, scopes, sessions, the audit log: every route with every kind of key, and secrets that stay secret."""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import Depends

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.api_keys import SCOPES
from api.access import rules_of
from api.app import create_app
from api.edge import Edge
from tests.integration.api_support import Api, iso, running, settings_for
from tests.integration.databases import database_copy
from tests.integration.keyed_api import (
    WRONG,
    Client,
    asking_for_keys,
    client_of,
    expired_key,
    make_key,
    revoke,
    revoked_key,
)
from tests.waiting import wait_for

EVENTS, METRICS, STATS = "/api/v1/events", "/api/v1/metrics", "/api/v1/events/stats"
KEYS, SESSION, AUDIT, CUSTOM = "/api/v1/keys", "/api/v1/session", "/api/v1/audit", "/api/v1/custom-events"


def the_app() -> Edge:
    app = create_app(Settings())
    assert isinstance(app, Edge)
    return app


RULES = rules_of(the_app().app)  # type: ignore[arg-type]
ROUTES = sorted(RULES)


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    with database_copy(postgres, template_database, "api_security") as copied:
        yield copied


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Api]:
    with asking_for_keys(database, security={"rate_limit": {"enabled": False}}) as running_api:
        yield running_api


@pytest.fixture(scope="module")
def holders(api: Api, database: str) -> dict[str, Client]:
    """One client per scope."""
    return {scope: client_of(api, database, scope) for scope in SCOPES}


@pytest.fixture(scope="module")
def bad_keys(api: Api, database: str) -> dict[str, str]:
    right = make_key(database, "admin").text
    found = {
        "wrong": WRONG,
        "right id, wrong secret": right[:-1] + ("0" if right[-1] != "0" else "1"),
        "not a key": "hunter2",
        "empty": "",
    }
    for scope in SCOPES:
        found[f"expired, {scope}"] = expired_key(database, scope).text
        found[f"revoked, {scope}"] = revoked_key(database, scope).text
    for name, text in found.items():
        wait_for(lambda text=text: not Client(api, text).is_known(), message=name)
    return found


@pytest.fixture(scope="module")
def partial_holders(api: Api, database: str) -> list[Client]:
    """Every scope that such a key may have, and a part of the events: by type, and by dimension."""
    parts: list[dict[str, Any]] = [{"event_types": ["order.*"]}, {"dimensions": {"strategy_id": ["s-1"]}}]
    return [client_of(api, database, "read", "write", **part) for part in parts]


def address(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "10000-0-1", path)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_asks_for_what_it_declares(
    api: Api, holders: dict[str, Client], bad_keys: dict[str, str], method: str, path: str
) -> None:
    rule, url = RULES[method, path], address(path)
    if not rule.scopes:
        assert api.request(method, url).status_code not in {401, 403}
        assert api.request(method, url, headers={"X-API-Key": WRONG}).status_code not in {401, 403}
        return
    none = api.request(method, url)
    assert (none.status_code, none.json()["type"]) == (401, "urn:b25-analytics:problem:api-key-required")
    assert none.headers["www-authenticate"].startswith("Bearer")
    answers = set()
    for text in bad_keys.values():
        for headers in ({"X-API-Key": text}, {"Authorization": f"Bearer {text}"}):
            answer = api.request(method, url, headers=headers)
            content = answer.json()
            assert content.pop("request_id") == answer.headers["x-request-id"]
            answers.add((answer.status_code, json.dumps(content, sort_keys=True)))
    [(status, text)] = answers  # the same for all of them
    assert (status, json.loads(text)["type"]) == (401, "urn:b25-analytics:problem:invalid-api-key")
    for scope, holder in holders.items():
        answer = holder.request(method, url)
        assert answer.status_code < 500
        if scope == "admin" or scope in rule.scopes:
            assert answer.status_code not in {401, 403}, answer.text
        else:
            assert (answer.status_code, answer.json()["type"]) == (
                403,
                "urn:b25-analytics:problem:missing-scope",
            )


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_what_is_about_all_events_is_refused_to_who_sees_a_part(
    api: Api, partial_holders: list[Client], method: str, path: str
) -> None:
    rule, url = RULES[method, path], address(path)
    for holder in partial_holders:
        answer = holder.request(method, url)
        assert answer.status_code < 500
        if rule.scopes and not rule.knows_parts:
            kind = "missing-scope" if rule.scopes == ("admin",) else "outside-key"
            assert (answer.status_code, answer.json()["type"]) == (403, f"urn:b25-analytics:problem:{kind}")


def test_a_path_that_does_not_exist_asks_for_a_key_too(api: Api, holders: dict[str, Client]) -> None:
    assert api.request("GET", "/api/v1/nothing").status_code == 401
    assert api.request("GET", "/docs/").status_code == 401
    assert holders["read"].request("GET", "/api/v1/nothing").status_code == 404
    assert holders["read"].request("PUT", EVENTS).status_code == 405


def test_a_route_without_a_declaration_stops_the_application() -> None:
    app: Any = the_app().app
    app.add_api_route("/api/v1/forgotten", lambda: None)
    with pytest.raises(LookupError, match="/api/v1/forgotten"):
        rules_of(app)
    app = the_app().app
    app.add_api_route("/api/v1/other", lambda: None, dependencies=[Depends(lambda: None)])
    with pytest.raises(LookupError, match="/api/v1/other"):
        rules_of(app)


@pytest.mark.parametrize(
    "value", [b"\xff\xfe", "ключ".encode(), b"b25_\x00", b"b25_" + b"\xc3\xa4" * 12 + b"_" + b"0" * 48, b" "]
)
@pytest.mark.parametrize("name", [b"X-API-Key", b"Authorization", b"Cookie"])
def test_bytes_that_are_no_text_are_refused(api: Api, name: bytes, value: bytes) -> None:
    given = {b"X-API-Key": value, b"Authorization": b"Bearer " + value, b"Cookie": b"b25_session=" + value}[
        name
    ]
    for method, path in (("GET", STATS), ("POST", EVENTS), ("GET", CUSTOM + "/x"), ("GET", "/nothing")):
        assert api.request(method, path, headers={name: given}).status_code == 401


def test_hits_of_the_cache_ask_for_the_key_as_well(api: Api, database: str) -> None:
    reader, writer = client_of(api, database, "read"), client_of(api, database, "write")
    end = iso(datetime.now(UTC) - timedelta(hours=30))
    start = iso(datetime.now(UTC) - timedelta(hours=40))
    asked = {"metric_name": "events.count", "start_time": start, "end_time": end}
    wait_for(lambda: reader.get(METRICS, **asked)["cached"], message="a hit")
    assert api.request("GET", METRICS, params=asked).status_code == 401
    assert writer.request("GET", METRICS, params=asked).status_code == 403
    etag = reader.request("GET", METRICS, params=asked).headers["etag"]
    for headers, status in ((reader.headers, 304), ({}, 401), (writer.headers, 403)):
        answer = api.request("GET", METRICS, params=asked, headers={**headers, "If-None-Match": etag})
        assert answer.status_code == status
    revoke(database, make_key(database, "read"))
    key = make_key(database, "read")
    client = Client(api, key)
    wait_for(client.is_known)
    assert client.get(METRICS, **asked)["cached"]
    revoke(database, key)
    wait_for(lambda: client.request("GET", METRICS, params=asked).status_code == 401, timeout=3)


@pytest.mark.slow
def test_a_key_expires_while_the_application_runs(api: Api, database: str) -> None:
    client = client_of(api, database, "read", expires_at=datetime.now(UTC) + timedelta(seconds=1.5))
    wait_for(lambda: not client.is_known(), timeout=3)


def test_anonymous_may_read_and_write_but_not_make_keys(database: str) -> None:
    with running(settings_for(database)) as open_api:
        assert open_api.request("GET", STATS).status_code == 200
        assert open_api.request("GET", STATS, headers={"X-API-Key": "anything"}).status_code == 200
        assert open_api.post(EVENTS, {"event_type": "anonymous"})["success"]
        for method, path in (("GET", KEYS), ("POST", KEYS), ("DELETE", KEYS + "/0"), ("GET", AUDIT)):
            refused = open_api.request(method, path, headers={"X-API-Key": WRONG}).json()
            assert refused["type"].endswith("missing-scope")
            assert "keys are off (security.api_key_enabled)" in refused["detail"]
        assert open_api.request("POST", SESSION).json()["type"].endswith("no-keys")
        assert open_api.get(SESSION) == {"key_id": None, "scopes": ["read", "write"], "csrf_token": None}


@pytest.mark.slow
def test_without_keys_names_that_anybody_can_lead_here_are_not_answered_to(database: str) -> None:
    def status(open_api: Api, host: str, path: str = STATS) -> int:
        return open_api.request("GET", path, headers={b"Host": host.encode()}).status_code

    with running(settings_for(database)) as open_api:
        own = (
            "localhost:9097",
            "LOCALHOST",
            "a.localhost:1",
            "127.0.0.1",
            "[::1]:9097",
            "10.1.2.3:9097",
            "desk:1",
        )
        for host in own:
            assert status(open_api, host) == 200
        for host in (
            "evil.example:9097",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "ä.example",
            "[.x",
        ):
            assert status(open_api, host) == 403
        assert status(open_api, "probe.internal", "/health") == 200
    with running(settings_for(database, security={"allow_anonymous": True})) as open_api:
        assert status(open_api, "api.example") == 200


def test_a_row_that_cannot_be_read_is_no_key_and_harms_no_other(api: Api, database: str) -> None:
    broken, good = make_key(database, "read"), make_key(database, "read", dimensions={"strategy_id": ["a"]})
    for dimensions in (
        '{"strategy_id": 5}',
        '{"strategy_id": "a"}',
        '{"strategy_id": [1]}',
        '{"a b": ["x"]}',
    ):
        with psycopg.connect(database) as connection:
            connection.execute(
                "UPDATE api_keys SET dimensions = %s::jsonb WHERE id = %s", (dimensions, broken.id)
            )
        wait_for(lambda: not Client(api, broken).is_known(), timeout=2)
        assert Client(api, good).is_known()


def test_keys_over_rest(api: Api, database: str, holders: dict[str, Client]) -> None:
    admin = holders["admin"]
    part = {"event_types": ["order.*"], "dimensions": {"strategy_id": ["s1"]}}
    body = {"name": "desk 3", "scopes": ["write", "read"], **part}
    made = admin.request("POST", KEYS, json=body)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    shown = made.json()
    text = shown.pop("key")
    assert shown["scopes"] == ["read", "write"]
    client = Client(api, text)
    wait_for(client.is_known)
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT api_keys::text FROM api_keys").fetchall()
    secret = text.rsplit("_", 1)[1]
    assert secret not in str(rows)
    [listed] = [key for key in admin.get(KEYS)["keys"] if key["id"] == shown["id"]]
    assert listed == shown | {"last_used_at": listed["last_used_at"]}
    assert secret not in admin.request("GET", KEYS).text
    revoked = admin.request("DELETE", f"{KEYS}/{shown['id']}").json()
    assert revoked["state"] == "revoked"
    assert admin.request("DELETE", f"{KEYS}/{shown['id']}").json() == revoked
    wait_for(lambda: not client.is_known(), timeout=3)
    for unknown in ("000000000000", "x", "%00", "%FF"):
        assert admin.request("DELETE", f"{KEYS}/{unknown}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b"null", b'{"name": "\\ud800", "scopes": ["read"]}',
        {"name": "a"}, {"name": "a", "scopes": []}, {"name": "a", "scopes": "read"},
        {"name": "a", "scopes": ["root"]}, {"name": "a", "scopes": [1]}, {"name": "", "scopes": ["read"]},
        {"name": " ", "scopes": ["read"]}, {"name": "a" * 256, "scopes": ["read"]}, {"name": 1, "scopes": ["read"]},
        {"name": "a\n", "scopes": ["read"]},
        {"name": "a", "scopes": ["read"], "dimension": {"strategy_id": ["s"]}},
        {"name": "a", "scopes": ["read"], "dimensions": {"strategy_id": []}},
        {"name": "a", "scopes": ["read"], "dimensions": {"strategy_id": "s"}},
        {"name": "a", "scopes": ["read"], "dimensions": {"user_id": ["u"]}},
        {"name": "a", "scopes": ["read"], "dimensions": {"a b": ["u"]}},
        {"name": "a", "scopes": ["read"], "dimensions": ["strategy_id"]},
        {"name": "a", "scopes": ["read"], "event_types": []},
        {"name": "a", "scopes": ["read"], "event_types": ["a*b"]},
        {"name": "a", "scopes": ["read"], "event_types": [""]},
        {"name": "a", "scopes": ["read"], "event_types": [str(n) for n in range(101)]},
        {"name": "a", "scopes": ["admin"], "event_types": ["order.*"]},
        {"name": "a", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"},
        {"name": "a", "scopes": ["read"], "expires_at": "tomorrow"},
        {"name": "a", "scopes": ["read"], "expires_at": 5},
    ],
)  # fmt: skip
def test_bodies_that_make_no_key(holders: dict[str, Client], body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = holders["admin"].request("POST", KEYS, content=content)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:b25-analytics:problem:invalid-key")


def session_of(client: Client, **headers: str) -> httpx.Response:
    answer = client.request("POST", SESSION, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer


def test_a_page_exchanges_a_key_for_a_cookie(api: Api, database: str) -> None:
    client = client_of(api, database, "read", "write")
    answer = session_of(client)
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict", "Max-Age=43200"} < set(cookie.split("; "))
    assert "Secure" not in cookie
    assert "Secure" in session_of(client, Origin="https://127.0.0.1:9097").headers["set-cookie"]
    text = cookie.partition(";")[0]
    with psycopg.connect(database) as connection:
        stored = str(connection.execute("SELECT api_sessions::text FROM api_sessions").fetchall())
    assert text.partition("=")[2] not in stored

    def ask(method: str, path: str, cookie: str = text, **headers: str) -> httpx.Response:
        return api.request(
            method, path, headers={"Cookie": f"a=b; {cookie}", **headers}, content=b'{"event_type":"x"}'
        )

    # At once, without waiting for the keys to be read again.
    assert ask("GET", SESSION).json() == answer.json()
    assert ask("GET", STATS).status_code == 200
    csrf = answer.json()["csrf_token"]
    for wrong in (
        {},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "0" * 64},
        {"X-CSRF-Token": text.partition("=")[2]},
    ):
        refused = ask("POST", EVENTS, **wrong)
        assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (403, "csrf-token")
    assert ask("POST", EVENTS, **{"X-CSRF-Token": csrf}).status_code == 201
    # Else a cookie could be renewed for ever.
    again = ask("POST", SESSION, **{"X-CSRF-Token": csrf})
    assert (again.status_code, again.json()["type"].rpartition(":")[2]) == (409, "has-session")
    assert ask("POST", EVENTS, **{"X-CSRF-Token": csrf, "Origin": "https://evil.example"}).status_code == 403
    assert ask("GET", STATS, cookie="b25_session=" + "0" * 64).status_code == 401
    assert ask("GET", STATS, cookie="b25_session=x").status_code == 401
    ended = ask("DELETE", SESSION, **{"X-CSRF-Token": csrf})
    assert ended.status_code == 204
    assert "Max-Age=0" in ended.headers["set-cookie"]
    api.client.cookies.clear()
    wait_for(lambda: ask("GET", STATS).status_code == 401, timeout=3)
    assert client.is_known()


def test_a_session_ends_with_its_key_and_there_are_not_too_many(api: Api, database: str) -> None:
    key = make_key(database, "read")
    client = Client(api, key)
    wait_for(client.is_known)
    cookies = [session_of(client).headers["set-cookie"].partition(";")[0] for _ in range(102)]
    with psycopg.connect(database) as connection:
        count = connection.execute(
            "SELECT count(*) FROM api_sessions WHERE key_id = %s", (key.id,)
        ).fetchone()
    assert count == (100,)

    def status(cookie: str) -> int:
        return api.request("GET", SESSION, headers={"Cookie": cookie}).status_code

    assert status(cookies[-1]) == 200
    wait_for(lambda: status(cookies[0]) == 401, timeout=2)
    revoke(database, key)
    wait_for(lambda: status(cookies[-1]) == 401, timeout=3)


@pytest.mark.slow
def test_a_session_expires(database: str) -> None:
    with asking_for_keys(database, security={"session_lifetime": "1s"}) as short:
        client = client_of(short, database, "read")
        cookie = session_of(client).headers["set-cookie"].partition(";")[0]
        assert short.request("GET", SESSION, headers={"Cookie": cookie}).status_code == 200
        wait_for(
            lambda: short.request("GET", SESSION, headers={"Cookie": cookie}).status_code == 401, timeout=3
        )


@pytest.mark.slow
def test_writes_are_in_the_audit_log_and_nothing_else_is(
    api: Api, database: str, holders: dict[str, Client]
) -> None:
    writer, admin = client_of(api, database, "write"), holders["admin"]
    [key_id] = {writer.headers["X-API-Key"].split("_")[1]}
    definition = {"name": "custom.audited", "schema": {"properties": {"password": {"const": "hunter2"}}}}
    for _ in range(2):
        writer.request("POST", CUSTOM, json=definition, headers={"X-Request-ID": "audited-1"})
    for _ in range(5):
        assert (
            writer.request("POST", EVENTS, json={"event_type": "a", "user_id": "hunter2"}).status_code == 201
        )
    writer.request("GET", STATS)
    writer.request("DELETE", "/nothing/hunter2")

    def lines() -> list[Any]:
        found: list[Any] = admin.get(AUDIT, key_id=key_id)["lines"]
        return found

    wait_for(lambda: sum(line["requests"] for line in lines()) == 8, timeout=5)
    found = [
        (line["method"], line["route"], line["status"], line["subject"], line["requests"]) for line in lines()
    ]
    assert ("POST", CUSTOM, 201, "custom.audited", 1) in found
    assert ("POST", CUSTOM, 409, "custom.audited", 1) in found
    assert ("DELETE", "unmatched", 404, None, 1) in found
    assert sum(count for *what, count in found if what == ["POST", EVENTS, 201, None]) == 5
    assert {line["request_id"] for line in lines() if line["subject"]} == {"audited-1"}
    assert "hunter2" not in admin.request("GET", AUDIT).text
    [newest] = admin.get(AUDIT, limit=1)["lines"]
    assert all(line["id"] < newest["id"] for line in admin.get(AUDIT, before=newest["id"])["lines"])
    assert admin.request("GET", AUDIT, params={"before": "x"}).status_code == 400
    api.request("POST", EVENTS)
    wait_for(
        lambda: any(line["status"] == 401 and line["key_id"] is None for line in admin.get(AUDIT)["lines"]),
        timeout=3,
    )


def test_a_write_is_in_the_audit_log_before_its_answer(api: Api, database: str) -> None:
    writer = client_of(api, database, "write")
    assert writer.request("POST", CUSTOM, json={"name": "custom.at_once"}).status_code == 201
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT status FROM audit_log WHERE subject = 'custom.at_once'").fetchall()
    assert found == [(201,)]


def test_lines_expire_and_keys_tell_when_they_were_used(
    api: Api, database: str, holders: dict[str, Client]
) -> None:
    client = client_of(api, database, "read")
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO audit_log (at, method, route, status, request_id)"
            " SELECT now() - interval '366 days', 'POST', 'old', 200, '' FROM generate_series(1, 1500)"
            " UNION ALL SELECT now() - interval '364 days', 'POST', 'young', 200, ''"
        )
    api.run(api.services.audit._tidy())
    with psycopg.connect(database) as connection:
        left = connection.execute(
            "SELECT route, count(*) FROM audit_log WHERE route IN ('old', 'young') GROUP BY 1"
        )
        assert left.fetchall() == [("young", 1)]
    [used] = [
        key
        for key in holders["admin"].get(KEYS)["keys"]
        if key["id"] == client.headers["X-API-Key"].split("_")[1]
    ]
    assert datetime.now(UTC) - datetime.fromisoformat(used["last_used_at"]) < timedelta(seconds=10)


@pytest.mark.parametrize(
    "path", [EVENTS, STATS, "/nothing", "/docs", "/health", "/openapi.json", "/dashboard"]
)
def test_headers_that_protect_browsers(api: Api, holders: dict[str, Client], path: str) -> None:
    for answer in (api.request("GET", path), holders["read"].request("GET", path)):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        policy = answer.headers.get_list("content-security-policy")
        assert len(policy) == 1
        assert "frame-ancestors 'none'" in policy[0]
        assert "default-src 'none'" in policy[0]
        assert "unsafe" not in policy[0]


def test_the_page_of_the_documentation_may_use_its_own_style_and_tells_of_keys(api: Api) -> None:
    page = api.request("GET", "/docs")
    [style] = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{allowed}'" in page.headers["content-security-policy"]
    assert " style=" not in page.text
    assert "<script" not in page.text
    assert "X-API-Key" in page.text


def test_cors_comes_from_the_settings_and_never_with_credentials(database: str) -> None:
    for origins, origin, expected in (
        (["https://page.example"], "https://page.example", "https://page.example"),
        (["https://page.example"], "https://evil.example", None),
        (["*"], "https://page.example", "*"),
    ):
        cors = {"enabled": True, "allowed_origins": origins}
        app = create_app(settings_for(database, security={"api_key_enabled": True, "cors": cors}))
        transport = httpx.ASGITransport(app)

        async def ask(
            method: str, transport: httpx.ASGITransport = transport, origin: str = origin
        ) -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9097") as client:
                headers = {
                    "Origin": origin, "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": "X-API-Key",
                }  # fmt: skip
                return await client.request(method, EVENTS, headers=headers)

        preflight, answer = asyncio.run(ask("OPTIONS")), asyncio.run(ask("POST"))
        assert preflight.status_code == (400 if expected is None else 200)
        assert answer.status_code == 401
        for one in (preflight, answer):
            assert one.headers.get("access-control-allow-origin") == expected
            assert "access-control-allow-credentials" not in one.headers


def test_postgres_down_is_not_a_wrong_key(postgres: Postgres) -> None:
    with running(
        settings_for("host=127.0.0.1 port=1", security={"api_key_enabled": True}), ready=False
    ) as lost:
        for headers in ({"X-API-Key": WRONG}, {"Cookie": "b25_session=" + "0" * 64}):
            assert lost.request("GET", STATS, headers=headers).status_code == 503
        assert lost.request("GET", STATS).status_code == 401


def test_openapi_tells_of_keys(api: Api) -> None:
    document = api.get("/openapi.json")
    assert set(document["components"]["securitySchemes"]) == {"key", "bearer", "cookie"}
    for (method, path), rule in RULES.items():
        operation = document["paths"].get(path.replace(":path}", "}"), {}).get(method.lower())
        if operation is None:
            continue
        assert bool(operation["security"]) == bool(rule.scopes)
        assert {} not in operation["security"]
        if rule.scopes:
            assert {"401", "403", "429"} <= operation["responses"].keys()
            assert all(f"`{scope}`" in operation["description"] for scope in rule.scopes)
