-- What an organisation may use; NULL: as much as there is.
ALTER TABLE organisations ADD COLUMN callers_max BIGINT;
ALTER TABLE organisations ADD COLUMN minutes_per_month BIGINT;

-- Callers who were let in, by their call's id. One counts until `counts_until`, which its node moves on while the call
-- goes on; its row goes with the call's record.
CREATE TABLE seats (
    id           TEXT   NOT NULL PRIMARY KEY,
    organisation TEXT   NOT NULL REFERENCES organisations (id),
    begun_at     BIGINT NOT NULL,
    counts_until BIGINT NOT NULL
);

CREATE INDEX seats_by_organisation ON seats (organisation, counts_until);

-- What calls that joined took, by the month in which they ended, in UTC ("2026-11"). Call records go sooner.
CREATE TABLE usage_months (
    organisation TEXT   NOT NULL REFERENCES organisations (id),
    month        TEXT   NOT NULL,
    micros       BIGINT NOT NULL,
    PRIMARY KEY (organisation, month)
);
