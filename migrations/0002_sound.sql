-- How a meeting wants its voices treated.
ALTER TABLE meetings ADD COLUMN automatic_gain BIGINT NOT NULL DEFAULT 1;
ALTER TABLE meetings ADD COLUMN noise_suppression BIGINT NOT NULL DEFAULT 0;
