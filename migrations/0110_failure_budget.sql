-- Wrong PINs of the last hour, and what nodes may still evaluate, so that the failure budget holds over all nodes.
-- A door is where PINs are guessed: 'callers', 'jitsi'.

-- A budget's row is locked while parts of it are given away. `low`: somebody was told that more than half is used up.
CREATE TABLE failure_budgets (
    door TEXT   NOT NULL PRIMARY KEY,
    low  BIGINT NOT NULL
);

-- Wrong PINs, those of a minute together. They count until then.
CREATE TABLE failures (
    door         TEXT   NOT NULL,
    counts_until BIGINT NOT NULL,
    how_many     BIGINT NOT NULL,
    PRIMARY KEY (door, counts_until)
);

-- What a process may use without asking, and until when; it counts for an hour longer. `told`: how many wrong PINs it
-- has reported.
CREATE TABLE failure_shares (
    door         TEXT   NOT NULL,
    holder       TEXT   NOT NULL,
    held         BIGINT NOT NULL,
    told         BIGINT NOT NULL,
    usable_until BIGINT NOT NULL,
    PRIMARY KEY (door, holder)
);
