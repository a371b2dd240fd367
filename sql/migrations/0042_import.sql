-- How far the import of the original service's history has come: one row per UTC day of it.

CREATE TABLE import_days (
    origin text NOT NULL,
    day date NOT NULL,
    pass integer NOT NULL DEFAULT 1,
    read bigint NOT NULL DEFAULT 0,
    stored bigint NOT NULL DEFAULT 0,
    duplicate bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0,
    read_hash numeric NOT NULL DEFAULT 0,
    landed bigint NOT NULL DEFAULT 0,
    landed_hash numeric NOT NULL DEFAULT 0,
    letters bigint NOT NULL DEFAULT 0,
    types jsonb NOT NULL DEFAULT '{}',
    reached_timestamp timestamptz,
    reached_id uuid,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    verified_at timestamptz,
    PRIMARY KEY (origin, day),
    CONSTRAINT read_is_accounted_for CHECK (read = stored + duplicate + dead)
);

COMMENT ON TABLE import_days IS 'What analytics import has done of each UTC day of the original service, moved with each batch.';
COMMENT ON COLUMN import_days.origin IS 'Database, host and port of the original''s database.';
COMMENT ON COLUMN import_days.pass IS 'A day that changed there is read again from its beginning; read to dead count in this pass.';
COMMENT ON COLUMN import_days.read_hash IS 'Sum of the hashes of the events read in this pass.';
COMMENT ON COLUMN import_days.landed IS 'Events stored by all passes, with the sum of their hashes; letters likewise.';
COMMENT ON COLUMN import_days.types IS 'By event type: read, stored, duplicate and dead in this pass, stored by all.';
COMMENT ON COLUMN import_days.reached_id IS 'With reached_timestamp the last event that was read; NULL at the beginning of a pass.';
COMMENT ON COLUMN import_days.verified_at IS 'When both sides were compared by counts and hash; NULL while the day is not done.';
