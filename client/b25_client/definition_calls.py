"""Methods of both clients about event types, and about what metrics can be asked for.

Belongs here: the methods. Does not belong here: what is asked and answered (`definitions`, `discovery`).
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, Unpack

from b25_client import definitions, discovery
from b25_client.calls import AsyncCalls, Calls
from b25_client.definitions import Compatibility, Definition, DefinitionVersion, Trial
from b25_client.discovery import CatalogMetric, DimensionValuesQuery


class DefinitionCalls(Calls):
    """Event types, and what can be asked for."""

    def create_custom_event(
        self,
        name: str,
        schema: Mapping[str, Any],
        *,
        display_name: str = "",
        description: str = "",
        is_active: bool = True,
    ) -> Definition:
        """Define an event type by the JSON Schema of its properties.

        Raises:
            Conflict: there is one of this name.
        """
        return self._transport.send(
            definitions.create_request(
                name, schema, display_name=display_name, description=description, is_active=is_active
            )
        )

    def custom_event(self, name: str) -> Definition:
        """The definition of an event type.

        Raises:
            NotFound: there is none of this name.
        """
        return self._transport.send(definitions.definition_request(name))

    def custom_events(
        self, *, is_active: bool | None = None, prefix: str | None = None, limit: int | None = None
    ) -> Iterator[Definition]:
        """All definitions by name, page by page; only those that judge events or do not, or whose names begin so."""
        return self._follow(
            lambda cursor: definitions.list_request(cursor, is_active=is_active, prefix=prefix, limit=limit)
        )

    def update_custom_event(
        self,
        name: str,
        *,
        schema: Mapping[str, Any] | None = None,
        display_name: str | None = None,
        description: str | None = None,
        version: int | None = None,
        if_match: str | None = None,
    ) -> Definition:
        """Change a definition; what is None stays. Another schema is a new version.

        Say what you change, so that nobody's change is lost: `version` or `if_match`.

        Args:
            name: of the event type.
            schema: in place of the whole one.
            display_name: for people.
            description: for people.
            version: that this is based on.
            if_match: `etag` of the definition that this is based on, or `*` for whatever is there.

        Raises:
            Conflict: it was changed meanwhile; read it again.
        """
        return self._transport.send(
            definitions.change_request(
                name,
                schema=schema,
                display_name=display_name,
                description=description,
                version=version,
                if_match=if_match,
            )
        )

    def activate_custom_event(self, name: str, *, if_match: str | None = None) -> Definition:
        """Have events of a type judged again; with `if_match` only if it is still that `etag`."""
        return self._transport.send(definitions.activity_request(name, is_active=True, if_match=if_match))

    def deactivate_custom_event(self, name: str, *, if_match: str | None = None) -> Definition:
        """Let events of a type pass unjudged; with `if_match` only if it is still that `etag`."""
        return self._transport.send(definitions.activity_request(name, is_active=False, if_match=if_match))

    def delete_custom_event(self, name: str, *, if_match: str | None = None) -> None:
        """Delete a definition; its versions stay.

        Raises:
            Conflict: `extra["used_by"]` names what needs it (events, dead letters, metrics); or it was changed.
        """
        return self._transport.send(definitions.delete_request(name, if_match=if_match))

    def custom_event_versions(self, name: str) -> Iterator[DefinitionVersion]:
        """Every schema that a type had, newest first; also after its definition was deleted."""
        return self._follow(lambda cursor: definitions.versions_request(name, cursor))

    def custom_event_version(self, name: str, version: int) -> DefinitionVersion:
        """The schema that events with this `definition_version` were judged by."""
        return self._transport.send(definitions.version_request(name, version))

    def custom_event_compatibility(
        self, name: str, schema: Mapping[str, Any] | None = None, *, last: int | None = None
    ) -> Compatibility:
        """What a schema, by default the present one, would have done to the `last` newest stored events (10,000)."""
        return self._transport.send(definitions.compatibility_request(name, schema=schema, last=last))

    def try_custom_event(
        self, name: str, event: object, *, schema: Mapping[str, Any] | None = None, version: int | None = None
    ) -> Trial:
        """What would become of an event by the definition, one of its versions or another schema; nothing is stored."""
        return self._transport.send(definitions.trial_request(name, event, schema=schema, version=version))

    def catalog(self) -> tuple[CatalogMetric, ...]:
        """All metrics that can be asked for, and what of each."""
        return self._transport.send(discovery.catalog_request())

    def dimensions(self) -> Mapping[str, tuple[str, ...]]:
        """All dimensions, and the names of the metrics that have each."""
        return self._transport.send(discovery.dimensions_request())

    def dimension_values(self, dimension: str, **asked: Unpack[DimensionValuesQuery]) -> Iterator[str | None]:
        """The values that a dimension had, by default in the last 24 hours; None stands for events without it."""
        return self._follow(lambda cursor: discovery.values_request(dimension, asked, cursor))


class AsyncDefinitionCalls(AsyncCalls):
    """`DefinitionCalls` for asyncio."""

    async def create_custom_event(
        self,
        name: str,
        schema: Mapping[str, Any],
        *,
        display_name: str = "",
        description: str = "",
        is_active: bool = True,
    ) -> Definition:
        """As `Client.create_custom_event`."""
        return await self._transport.send(
            definitions.create_request(
                name, schema, display_name=display_name, description=description, is_active=is_active
            )
        )

    async def custom_event(self, name: str) -> Definition:
        """As `Client.custom_event`."""
        return await self._transport.send(definitions.definition_request(name))

    def custom_events(
        self, *, is_active: bool | None = None, prefix: str | None = None, limit: int | None = None
    ) -> AsyncGenerator[Definition]:
        """As `Client.custom_events`."""
        return self._follow(
            lambda cursor: definitions.list_request(cursor, is_active=is_active, prefix=prefix, limit=limit)
        )

    async def update_custom_event(
        self,
        name: str,
        *,
        schema: Mapping[str, Any] | None = None,
        display_name: str | None = None,
        description: str | None = None,
        version: int | None = None,
        if_match: str | None = None,
    ) -> Definition:
        """As `Client.update_custom_event`."""
        return await self._transport.send(
            definitions.change_request(
                name,
                schema=schema,
                display_name=display_name,
                description=description,
                version=version,
                if_match=if_match,
            )
        )

    async def activate_custom_event(self, name: str, *, if_match: str | None = None) -> Definition:
        """As `Client.activate_custom_event`."""
        return await self._transport.send(
            definitions.activity_request(name, is_active=True, if_match=if_match)
        )

    async def deactivate_custom_event(self, name: str, *, if_match: str | None = None) -> Definition:
        """As `Client.deactivate_custom_event`."""
        return await self._transport.send(
            definitions.activity_request(name, is_active=False, if_match=if_match)
        )

    async def delete_custom_event(self, name: str, *, if_match: str | None = None) -> None:
        """As `Client.delete_custom_event`."""
        return await self._transport.send(definitions.delete_request(name, if_match=if_match))

    def custom_event_versions(self, name: str) -> AsyncGenerator[DefinitionVersion]:
        """As `Client.custom_event_versions`."""
        return self._follow(lambda cursor: definitions.versions_request(name, cursor))

    async def custom_event_version(self, name: str, version: int) -> DefinitionVersion:
        """As `Client.custom_event_version`."""
        return await self._transport.send(definitions.version_request(name, version))

    async def custom_event_compatibility(
        self, name: str, schema: Mapping[str, Any] | None = None, *, last: int | None = None
    ) -> Compatibility:
        """As `Client.custom_event_compatibility`."""
        return await self._transport.send(definitions.compatibility_request(name, schema=schema, last=last))

    async def try_custom_event(
        self, name: str, event: object, *, schema: Mapping[str, Any] | None = None, version: int | None = None
    ) -> Trial:
        """As `Client.try_custom_event`."""
        return await self._transport.send(
            definitions.trial_request(name, event, schema=schema, version=version)
        )

    async def catalog(self) -> tuple[CatalogMetric, ...]:
        """As `Client.catalog`."""
        return await self._transport.send(discovery.catalog_request())

    async def dimensions(self) -> Mapping[str, tuple[str, ...]]:
        """As `Client.dimensions`."""
        return await self._transport.send(discovery.dimensions_request())

    def dimension_values(
        self, dimension: str, **asked: Unpack[DimensionValuesQuery]
    ) -> AsyncGenerator[str | None]:
        """As `Client.dimension_values`."""
        return self._follow(lambda cursor: discovery.values_request(dimension, asked, cursor))
