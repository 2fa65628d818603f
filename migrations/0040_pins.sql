-- When a PIN was withdrawn or replaced: it opens nothing any more, and for the quarantine nobody else gets it.
ALTER TABLE pins ADD COLUMN withdrawn_at BIGINT;
