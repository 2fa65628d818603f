-- What one PIN opens: NULL, the whole series; `occurrence`: each occurrence has PINs of its own.
ALTER TABLE meetings ADD COLUMN pins_per TEXT;

-- The occurrence that a PIN opens, by its recurrence id; NULL: all there are.
ALTER TABLE pins ADD COLUMN occurrence TEXT;
