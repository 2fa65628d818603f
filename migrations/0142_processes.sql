-- Which processes live: each says so every second. What one left behind is told to its end only once it
-- has been silent for a while.
CREATE TABLE processes (
    process TEXT   NOT NULL PRIMARY KEY,
    node    TEXT   NOT NULL,
    beat_at BIGINT NOT NULL
);
