-- What happened in calls and meetings, for booking systems. `position` counts up in the order of commits, on
-- all nodes: the one row of `event_counter` is locked while it is given.
CREATE TABLE event_counter (
    id   BIGINT NOT NULL PRIMARY KEY,
    last BIGINT NOT NULL
);

CREATE TABLE events (
    position     BIGINT NOT NULL PRIMARY KEY,
    id           TEXT   NOT NULL UNIQUE,
    kind         TEXT   NOT NULL,
    at           BIGINT NOT NULL,
    organisation TEXT,
    meeting      TEXT,
    data         TEXT   NOT NULL
);

CREATE INDEX events_by_organisation ON events (organisation, position);
CREATE INDEX events_by_age ON events (at);
