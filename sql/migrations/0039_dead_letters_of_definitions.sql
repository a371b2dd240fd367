-- Which definitions have refused messages that still wait: deleting one asks. Types that reach a schema are short, so they fit an index.
CREATE INDEX dead_letter_events_definition_idx ON dead_letter_events (event_type)
WHERE reason = 'schema_violation' AND status = 'open';
