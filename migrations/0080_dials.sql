-- Calls to people. What an organisation may have dialled; NULL: the default. `dial_prefixes` is a JSON list;
-- NULL: nothing at all.
ALTER TABLE organisations ADD COLUMN dial_prefixes TEXT;
ALTER TABLE organisations ADD COLUMN dial_digits_min BIGINT;
ALTER TABLE organisations ADD COLUMN dial_digits_max BIGINT;
ALTER TABLE organisations ADD COLUMN dial_at_once_max BIGINT;
ALTER TABLE organisations ADD COLUMN dial_per_hour_max BIGINT;

-- `in` or `out`; NULL: in.
ALTER TABLE calls ADD COLUMN direction TEXT;

-- Each call that was begun, by its call's id, so that limits hold on all nodes. It counts as one that goes on until
-- `counts_until`, which its node moves on while it does; 0: it is over.
CREATE TABLE dials (
    id           TEXT   NOT NULL PRIMARY KEY,
    organisation TEXT   NOT NULL REFERENCES organisations (id),
    begun_at     BIGINT NOT NULL,
    counts_until BIGINT NOT NULL
);

CREATE INDEX dials_by_organisation ON dials (organisation, begun_at);
