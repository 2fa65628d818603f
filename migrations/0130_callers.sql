-- What tells callers apart without their numbers: a keyed hash; NULL: withheld, erased, or from before.
ALTER TABLE calls ADD COLUMN caller_hash TEXT;

CREATE INDEX calls_by_caller ON calls (caller_hash, started_at);

-- To find what events tell of a caller.
CREATE INDEX events_by_meeting ON events (meeting, position);

-- What the nodes share and nobody is told.
CREATE TABLE secrets (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
