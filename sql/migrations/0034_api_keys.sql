-- Who may use the REST API: keys, sessions of browsers, and what was written with them.

CREATE TABLE api_keys (
    id text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{12}$'),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    scopes text[] NOT NULL CHECK (scopes <@ ARRAY['read', 'write', 'admin'] AND cardinality(scopes) > 0),
    event_types text[] CHECK (cardinality(event_types) > 0),
    dimensions jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(dimensions) = 'object'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);

COMMENT ON TABLE api_keys IS 'Keys of the REST API; revoked ones stay, so that the audit log can be read.';
COMMENT ON COLUMN api_keys.hash IS 'SHA-256 of the whole key, which is shown once and stored nowhere.';
COMMENT ON COLUMN api_keys.event_types IS 'The types that the key sees and sends, or prefixes ending in *; null: all.';
COMMENT ON COLUMN api_keys.dimensions IS 'Per property the values that the key sees and sends; {}: all.';
COMMENT ON COLUMN api_keys.last_used_at IS 'To the minute.';

CREATE TABLE api_sessions (
    hash bytea PRIMARY KEY CHECK (length(hash) = 32),
    key_id text NOT NULL REFERENCES api_keys ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);

CREATE INDEX api_sessions_key_id_idx ON api_sessions (key_id, created_at);

COMMENT ON TABLE api_sessions IS 'Browsers that exchanged a key for a cookie.';
COMMENT ON COLUMN api_sessions.hash IS 'SHA-256 of the cookie.';

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    key_id text,
    method text NOT NULL,
    route text NOT NULL,
    status smallint NOT NULL,
    request_id text NOT NULL,
    subject text,
    requests integer NOT NULL DEFAULT 1 CHECK (requests > 0)
);

CREATE INDEX audit_log_at_idx ON audit_log (at);

COMMENT ON TABLE audit_log IS 'Requests that write, refused ones too; neither bodies nor secrets.';
COMMENT ON COLUMN audit_log.key_id IS 'Null: anonymous, or no key that holds.';
COMMENT ON COLUMN audit_log.subject IS 'What it was about, such as the name of a definition.';
COMMENT ON COLUMN audit_log.requests IS 'How many alike: posted events and refused requests share a line for a second.';

-- Every API process reads the keys again when they change; not when they are used.
CREATE FUNCTION announce_api_keys() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NOTIFY api_keys;
    RETURN NULL;
END
$$;

CREATE TRIGGER announce
AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF hash, scopes, event_types, dimensions, expires_at, revoked_at ON api_keys
FOR EACH STATEMENT EXECUTE FUNCTION announce_api_keys();

-- By row, so that looking for expired sessions and finding none tells nobody.
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON api_sessions
FOR EACH ROW EXECUTE FUNCTION announce_api_keys();
