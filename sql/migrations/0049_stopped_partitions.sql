-- That a partition is stopped was known to the process alone that had stopped it, in its memory and its log.

ALTER TABLE ingest_offsets
ADD COLUMN stop_reason text CHECK (stop_reason IN ('dead_letters', 'topic_recreated', 'messages_deleted')),
ADD COLUMN stopped text,
ADD COLUMN kafka_silent_since timestamptz,
ADD CONSTRAINT a_stop_has_a_reason CHECK ((stop_reason IS NULL) = (stopped IS NULL));

COMMENT ON COLUMN ingest_offsets.stop_reason IS
'Why nothing is read until a person has decided: dead_letters, topic_recreated, messages_deleted; null: it is read.';
COMMENT ON COLUMN ingest_offsets.stopped IS 'The same in a sentence, with the command that resolves it.';
COMMENT ON COLUMN ingest_offsets.kafka_silent_since IS
'Since when Kafka has not answered the process that owns the partition; null: it does.';
