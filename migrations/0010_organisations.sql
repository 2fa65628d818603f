-- What an organisation may set for itself; NULL: as the configuration says.

ALTER TABLE organisations ADD COLUMN language TEXT;
ALTER TABLE organisations ADD COLUMN privacy_show TEXT;
ALTER TABLE organisations ADD COLUMN privacy_store TEXT;
ALTER TABLE organisations ADD COLUMN retain_days BIGINT;
ALTER TABLE organisations ADD COLUMN meetings_max BIGINT;
ALTER TABLE organisations ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;

CREATE INDEX api_keys_by_organisation ON api_keys (organisation, created_at, id);

-- Who did what. `subject` is the path of the request, or what it made.

CREATE TABLE audit (
    id           TEXT   NOT NULL PRIMARY KEY,
    at           BIGINT NOT NULL,
    organisation TEXT,
    api_key      TEXT   NOT NULL,
    role         TEXT   NOT NULL,
    action       TEXT   NOT NULL,
    subject      TEXT   NOT NULL,
    status       BIGINT NOT NULL
);

CREATE INDEX audit_by_time ON audit (at, id);
CREATE INDEX audit_by_organisation ON audit (organisation, at, id);
