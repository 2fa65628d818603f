-- Rooms that meetings are booked into, one at a time.
CREATE TABLE rooms (
    id           TEXT   NOT NULL PRIMARY KEY,
    organisation TEXT   NOT NULL REFERENCES organisations (id),
    name         TEXT   NOT NULL,
    capacity     BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    revision     BIGINT NOT NULL,
    UNIQUE (organisation, name)
);

-- The room a meeting has; how large it was to be, NULL where it was named; and until when the times of an endless series
-- stand in room_slots, NULL for all others.
ALTER TABLE meetings ADD COLUMN room TEXT REFERENCES rooms (id) ON DELETE SET NULL;
ALTER TABLE meetings ADD COLUMN room_min_capacity BIGINT;
ALTER TABLE meetings ADD COLUMN room_until BIGINT;

CREATE INDEX meetings_by_room ON meetings (room) WHERE room IS NOT NULL;
CREATE INDEX meetings_by_room_until ON meetings (room_until) WHERE room_until IS NOT NULL;

-- When rooms are taken by what; written with the booking. Not held: an occurrence of an endless series that found
-- another booking in its place when it came near enough to be looked at.
CREATE TABLE room_slots (
    meeting   TEXT   NOT NULL REFERENCES meetings (id) ON DELETE CASCADE,
    starts_at BIGINT NOT NULL,
    ends_at   BIGINT NOT NULL,
    room      TEXT   NOT NULL REFERENCES rooms (id) ON DELETE CASCADE,
    held      BIGINT NOT NULL,
    PRIMARY KEY (meeting, starts_at, ends_at)
);

CREATE INDEX room_slots_by_room ON room_slots (room, ends_at);
