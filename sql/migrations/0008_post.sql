-- POST: many events in one row of the inbox, what became of them, and answers kept for requests that are sent again.

-- A row holds up to 65,536 events, one a line. The event at position p of a row has the offset id + p, so the sequence
-- leaves room. Rows from before keep their ids: the first new block begins above them.
ALTER TABLE http_inbox
ADD COLUMN events integer NOT NULL DEFAULT 1 CHECK (events BETWEEN 1 AND 65536),
ALTER COLUMN payload SET STORAGE EXTERNAL, -- a row lives for milliseconds: compressing it only costs
ALTER COLUMN id SET INCREMENT BY 65536;

SELECT setval('http_inbox_id_seq', (SELECT (last_value / 65536 + 1) * 65536 FROM http_inbox_id_seq), false);

-- A queue: always short, always written.
ALTER TABLE http_inbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

COMMENT ON COLUMN http_inbox.events IS 'Lines of the payload: what concurrent requests posted shares a row.';
COMMENT ON COLUMN events.source_offset IS 'Kafka offset; of POST the row of the inbox plus the position in it.';

CREATE TABLE http_duplicates (
    inbox_id bigint PRIMARY KEY,
    positions integer[] NOT NULL,
    landed_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE http_duplicates IS 'Posted events that were stored already: with dead letters, what a landing token needs to tell.';

CREATE TABLE http_idempotency (
    key bytea PRIMARY KEY,
    fingerprint bytea NOT NULL,
    status smallint NOT NULL,
    answer bytea NOT NULL,
    landing text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX http_idempotency_created_at_idx ON http_idempotency (created_at);

COMMENT ON TABLE http_idempotency IS 'Answers to requests with an Idempotency-Key, committed with their events.';
COMMENT ON COLUMN http_idempotency.key IS 'SHA-256 of the key.';
COMMENT ON COLUMN http_idempotency.fingerprint IS 'SHA-256 of the content type and the body.';
