-- Where organisations want to be told of events. `kinds` is a JSON list; NULL: all. `position` is the last event
-- that deliveries were made of; `leased_by` the process that delivers, until `leased_until`.
CREATE TABLE webhooks (
    id           TEXT   NOT NULL PRIMARY KEY,
    organisation TEXT   NOT NULL REFERENCES organisations (id),
    url          TEXT   NOT NULL,
    kinds        TEXT,
    enabled      BIGINT NOT NULL,
    secret       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    revision     BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    leased_by    TEXT,
    leased_until BIGINT
);

CREATE INDEX webhooks_by_organisation ON webhooks (organisation, created_at);

-- One for each event that a webhook is to be told. `state` is pending, delivered or failed.
CREATE TABLE deliveries (
    webhook      TEXT   NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    position     BIGINT NOT NULL,
    event        TEXT   NOT NULL,
    kind         TEXT   NOT NULL,
    meeting      TEXT,
    state        TEXT   NOT NULL,
    attempts     BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    attempted_at BIGINT,
    status       BIGINT,
    error        TEXT,
    PRIMARY KEY (webhook, position)
);

CREATE INDEX deliveries_by_state ON deliveries (webhook, state, position);
CREATE INDEX deliveries_by_event ON deliveries (webhook, event);
CREATE INDEX deliveries_by_age ON deliveries (created_at);
