-- Events, dead letters and the books of landing.

CREATE TABLE events (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    event_type varchar(255) NOT NULL,
    user_id varchar(255),
    session_id varchar(255),
    properties jsonb DEFAULT '{}',
    timestamp timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    source text,
    source_partition integer,
    source_offset bigint,
    is_late boolean NOT NULL DEFAULT false,
    definition_version integer,
    PRIMARY KEY (timestamp, id)
) PARTITION BY RANGE (timestamp);

CREATE INDEX events_event_type_timestamp_idx ON events (event_type, timestamp);

COMMENT ON TABLE events IS 'One row per event, landed exactly once; one partition a UTC day, never a default partition.';
COMMENT ON COLUMN events.source IS 'Where it came from: the Kafka topic, or http for POST.';
COMMENT ON COLUMN events.source_offset IS 'Kafka offset, or the row of the inbox.';
COMMENT ON COLUMN events.is_late IS 'Decided at landing: its minute was over, grace included, when it reached its source.';

CREATE SEQUENCE ingest_batch_id_seq AS bigint;

CREATE TABLE ingest_offsets (
    source text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    caught_up_at timestamptz,
    is_retired boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, partition)
);

COMMENT ON TABLE ingest_offsets IS 'The truth of what has landed: the next offset of every Kafka partition, moved by compare-and-set.';
COMMENT ON COLUMN ingest_offsets.epoch IS 'Raised by every new owner, so that an earlier one can no longer commit.';
COMMENT ON COLUMN ingest_offsets.caught_up_at IS 'Everything that Kafka held at this time has landed.';

CREATE TABLE ingest_batches (
    batch_id bigint NOT NULL,
    source text NOT NULL,
    partition integer NOT NULL,
    first_offset bigint,
    next_offset bigint,
    read bigint NOT NULL,
    stored bigint NOT NULL,
    duplicate bigint NOT NULL,
    dead bigint NOT NULL,
    skipped bigint NOT NULL DEFAULT 0,
    catalog_version text NOT NULL,
    hours timestamptz[] NOT NULL DEFAULT '{}',
    seconds double precision NOT NULL DEFAULT 0,
    note text,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (batch_id, source, partition),
    CONSTRAINT read_is_accounted_for CHECK (read = stored + duplicate + dead),
    CONSTRAINT offsets_are_accounted_for CHECK (next_offset - first_offset = read + skipped)
);

CREATE INDEX ingest_batches_source_idx ON ingest_batches (source, partition, first_offset);
CREATE INDEX ingest_batches_committed_at_idx ON ingest_batches (committed_at);

COMMENT ON TABLE ingest_batches IS 'The ledger: one row per batch and source partition; first_offset(k+1) = next_offset(k).';

CREATE TABLE dead_letter_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id bigint NOT NULL,
    source text NOT NULL,
    partition integer NOT NULL,
    source_offset bigint,
    reason text NOT NULL,
    detail text NOT NULL DEFAULT '',
    event_type text,
    key bytea,
    value bytea,
    headers bytea,
    message_timestamp timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'replayed', 'discarded'))
);

CREATE INDEX dead_letter_events_created_at_idx ON dead_letter_events (created_at);
CREATE INDEX dead_letter_events_source_idx ON dead_letter_events (source, partition, source_offset);

COMMENT ON TABLE dead_letter_events IS 'Messages that could not become events, bytes kept as they came, with a reason code.';
COMMENT ON COLUMN dead_letter_events.headers IS 'JSON list of [name, base64 of the value or null].';

CREATE TABLE http_inbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payload bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE http_inbox IS 'Events accepted over REST and not landed yet; durable from the 201 on.';

CREATE TABLE http_accepted (
    process_id uuid NOT NULL,
    day date NOT NULL,
    accepted bigint NOT NULL,
    PRIMARY KEY (process_id, day)
);

COMMENT ON TABLE http_accepted IS 'Events accepted over REST per API process and day: their sum is what the ledger read plus the inbox.';

CREATE TABLE custom_event_definitions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name varchar(255) NOT NULL UNIQUE,
    display_name varchar(255) NOT NULL DEFAULT '',
    description text NOT NULL DEFAULT '',
    schema jsonb NOT NULL DEFAULT '{}',
    is_active boolean NOT NULL DEFAULT true,
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE custom_event_definitions IS 'User-defined event types and the JSON Schema of their properties.';

CREATE TABLE retention_state (
    is_single boolean PRIMARY KEY DEFAULT true CHECK (is_single),
    raw_floor timestamptz NOT NULL
);

INSERT INTO retention_state (raw_floor) VALUES ('1970-01-01 00:00:00+00');

COMMENT ON COLUMN retention_state.raw_floor IS 'Events before it are too old: landings hold the floor lock shared while they read it.';
