-- Which PINs an organisation gets; NULL: as the configuration says. `pin_digits` are the digits they are made of,
-- `pin_forbidden` is a JSON list of what none of them holds.
ALTER TABLE organisations ADD COLUMN pin_length BIGINT;
ALTER TABLE organisations ADD COLUMN pin_digits TEXT;
ALTER TABLE organisations ADD COLUMN pin_forbidden TEXT;
