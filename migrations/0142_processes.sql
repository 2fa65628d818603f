-- Which processes live: each says so every second. What one left behind is told to its end only once it
-- has been silent for a while.
CREATE TABLE processes (
    process TEXT   NOT NULL PRIMARY KEY,
    node    TEXT   NOT NULL,
    -- The folder that it lives in alone; whoever lives there next knows that it is dead.
    home    TEXT,
    beat_at BIGINT NOT NULL
);
