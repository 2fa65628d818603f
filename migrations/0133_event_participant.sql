-- Of whom an event tells, to find what tells of a caller without looking through what others did in his meeting.
ALTER TABLE events ADD COLUMN participant TEXT;

-- Those that are kept already: `data` has his id near its beginning.
WITH RECURSIVE place (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM place WHERE i < 300)
UPDATE events SET participant = (
    SELECT SUBSTR(events.data, MIN(place.i) + 6, 36) FROM place WHERE SUBSTR(events.data, place.i, 6) = '"id":"'
) WHERE kind LIKE 'participant.%';

CREATE INDEX events_by_participant ON events (participant);
