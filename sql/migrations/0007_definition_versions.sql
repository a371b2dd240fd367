-- Versions of custom event definitions: a changed schema is a new version, whoever changes it, and old ones stay.

CREATE TABLE custom_event_definition_versions (
    name varchar(255) NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    schema jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);

COMMENT ON TABLE custom_event_definition_versions IS
'Every schema that events were judged by: events.definition_version leads here, also after a definition was deleted.';

INSERT INTO custom_event_definition_versions (name, version, schema, created_at)
SELECT
    definition.name,
    definition.version,
    definition.schema,
    definition.updated_at
FROM custom_event_definitions AS definition;

-- A definition that is deleted and made again goes on counting: no two schemas ever share a name and a version.
CREATE FUNCTION number_definition_version() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    newest integer;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        NEW.updated_at := clock_timestamp();
        IF NEW.name = OLD.name AND NEW.schema = OLD.schema THEN
            NEW.version := OLD.version;
            RETURN NEW;
        END IF;
    END IF;
    SELECT max(known.version) INTO newest FROM custom_event_definition_versions AS known WHERE known.name = NEW.name;
    NEW.version := greatest(newest + 1, NEW.version, 1);
    RETURN NEW;
END
$$;

-- Afterwards: an INSERT that turns into an UPDATE (ON CONFLICT) has stored nothing to be kept.
CREATE FUNCTION keep_definition_version() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO custom_event_definition_versions (name, version, schema)
    SELECT NEW.name, NEW.version, NEW.schema
    WHERE TG_OP = 'INSERT' OR NEW.name <> OLD.name OR NEW.version <> OLD.version;
    RETURN NULL;
END
$$;

CREATE TRIGGER number_version BEFORE INSERT OR UPDATE ON custom_event_definitions
FOR EACH ROW EXECUTE FUNCTION number_definition_version();

CREATE TRIGGER keep_version AFTER INSERT OR UPDATE ON custom_event_definitions
FOR EACH ROW EXECUTE FUNCTION keep_definition_version();

CREATE FUNCTION announce_definitions() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NOTIFY custom_events;
    RETURN NULL;
END
$$;

CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON custom_event_definitions
FOR EACH STATEMENT EXECUTE FUNCTION announce_definitions();
