-- Times ending in _at are microseconds since 1970 in UTC; times ending in _local are civil times of the
-- meeting's own zone, which is what was agreed. Ids are UUIDs as text, booleans 0 or 1.
-- On PostgreSQL `pins.digits` needs COLLATE "C": prefixes are found by a range of digits.

CREATE TABLE organisations (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id           TEXT   NOT NULL PRIMARY KEY,
    organisation TEXT   NOT NULL REFERENCES organisations (id),
    role         TEXT   NOT NULL,
    scopes       TEXT   NOT NULL,
    prefix       TEXT   NOT NULL UNIQUE,
    hash         TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT
);

CREATE TABLE meetings (
    id                 TEXT   NOT NULL PRIMARY KEY,
    organisation       TEXT   NOT NULL REFERENCES organisations (id),
    echo               BIGINT NOT NULL,
    external_id        TEXT,
    title              TEXT   NOT NULL,
    timezone           TEXT   NOT NULL,
    starts_local       TEXT   NOT NULL,
    ends_local         TEXT,
    starts_at          BIGINT NOT NULL,
    ends_at            BIGINT,
    opens_at           BIGINT NOT NULL,
    closes_at          BIGINT,
    capacity           BIGINT,
    language           TEXT,
    metadata           TEXT,
    wait_for_host      BIGINT NOT NULL,
    mute_on_join       BIGINT NOT NULL,
    guests_may_unmute  BIGINT NOT NULL,
    early_join_minutes BIGINT NOT NULL,
    overrun_minutes    BIGINT NOT NULL,
    cancelled_at       BIGINT,
    ended_at           BIGINT,
    created_at         BIGINT NOT NULL,
    updated_at         BIGINT NOT NULL,
    revision           BIGINT NOT NULL,
    UNIQUE (organisation, external_id)
);

CREATE INDEX meetings_by_start ON meetings (organisation, starts_at, id);
CREATE INDEX meetings_by_close ON meetings (closes_at);

CREATE TABLE pins (
    id         TEXT   NOT NULL PRIMARY KEY,
    meeting    TEXT   NOT NULL REFERENCES meetings (id) ON DELETE CASCADE,
    digits     TEXT   NOT NULL UNIQUE,
    role       TEXT   NOT NULL,
    label      TEXT,
    created_at BIGINT NOT NULL
);

CREATE INDEX pins_by_meeting ON pins (meeting);

CREATE TABLE calls (
    id            TEXT   NOT NULL PRIMARY KEY,
    kind          TEXT   NOT NULL,
    organisation  TEXT,
    number        TEXT   NOT NULL,
    caller        TEXT   NOT NULL,
    started_at    BIGINT NOT NULL,
    answered_at   BIGINT,
    ended_at      BIGINT NOT NULL,
    meeting       TEXT,
    participant   TEXT,
    outcome       TEXT   NOT NULL,
    pin_attempts  BIGINT NOT NULL,
    hangup_by     TEXT   NOT NULL,
    q850          BIGINT NOT NULL,
    node          TEXT   NOT NULL,
    sip_call_id   TEXT,
    quality       TEXT,
    echo          BIGINT NOT NULL
);

CREATE INDEX calls_by_start ON calls (started_at, id);
CREATE INDEX calls_by_organisation ON calls (organisation, started_at, id);

CREATE TABLE idempotency (
    api_key    TEXT   NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    name       TEXT   NOT NULL,
    body_hash  TEXT   NOT NULL,
    meeting    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (api_key, name)
);

CREATE INDEX idempotency_by_age ON idempotency (created_at);
