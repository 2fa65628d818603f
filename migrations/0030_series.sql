-- A series: its rule, days left out and added, and what became of single occurrences, as JSON in civil
-- times of the meeting's zone. NULL: it takes place once.
ALTER TABLE meetings ADD COLUMN recurrence TEXT;

-- The occurrence that a call reached, by its recurrence id.
ALTER TABLE calls ADD COLUMN occurrence TEXT;
