-- What statistics count of a call's quality: packets lost of a million, and hundredths of the mean opinion score.
-- NULL: not measured, or from before.
ALTER TABLE calls ADD COLUMN loss_ppm BIGINT;
ALTER TABLE calls ADD COLUMN mos_hundredths BIGINT;
