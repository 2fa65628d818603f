-- Answers to POSTs that came with an `Idempotency-Key`. `request` is SHA-256 of method, path and body;
-- `sealed` is the answer, encrypted under the client's API key, which is not kept here. NULL: it isn't
-- answered yet.
CREATE TABLE answers (
    api_key    TEXT   NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    name       TEXT   NOT NULL,
    request    TEXT   NOT NULL,
    sealed     TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (api_key, name)
);

CREATE INDEX answers_by_age ON answers (created_at);
