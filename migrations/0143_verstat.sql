-- What the trunk said of the caller's number: whether whoever placed the call may use it (STIR).
ALTER TABLE calls ADD COLUMN verstat TEXT;
