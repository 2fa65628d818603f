-- Why a webhook was switched off by itself.
ALTER TABLE webhooks ADD COLUMN disabled_because TEXT;
