-- Who is in a meeting or waits for it, and which meetings are live, as was told of them last, and by which
-- node and process. What a process leaves here that was killed, its node tells the end of at its next start.
CREATE TABLE present (
    participant TEXT   NOT NULL PRIMARY KEY,
    meeting     TEXT   NOT NULL,
    node        TEXT   NOT NULL,
    process     TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    data        TEXT   NOT NULL
);

CREATE INDEX present_by_node ON present (node, meeting);

CREATE TABLE live_meetings (
    meeting TEXT   NOT NULL,
    node    TEXT   NOT NULL,
    process TEXT   NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (meeting, node)
);
