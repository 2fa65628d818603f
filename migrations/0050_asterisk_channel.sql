-- Asterisk's name of the channel that a caller came by.
ALTER TABLE calls ADD COLUMN asterisk_channel TEXT;
