-- The trunk that a call by direct SIP came by.
ALTER TABLE calls ADD COLUMN trunk TEXT;
