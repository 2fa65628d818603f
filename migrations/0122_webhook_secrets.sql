-- The secret that a webhook had before: until then messages are signed with it too.
ALTER TABLE webhooks ADD COLUMN former_secret TEXT;
ALTER TABLE webhooks ADD COLUMN former_until BIGINT;
