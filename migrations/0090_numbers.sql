-- The numbers that people dial. `dialled` tells them apart: letters and digits alone, without a leading 00.
-- Organisations stand here by name, which never changes: a configuration may name one that is made later.
-- Without one: everybody's.
CREATE TABLE numbers (
    id           TEXT   NOT NULL PRIMARY KEY,
    number       TEXT   NOT NULL,
    dialled      TEXT   NOT NULL UNIQUE,
    country      TEXT,
    language     TEXT,
    organisation TEXT,
    label        TEXT,
    toll_free    BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    revision     BIGINT NOT NULL
);

-- Numbers that a configuration brought: each once, so that one which was deleted or changed since stays so.
CREATE TABLE number_seeds (
    dialled TEXT NOT NULL PRIMARY KEY
);

-- One row that counts up with every change of a number: by it other nodes notice.
CREATE TABLE number_plan (
    id       BIGINT NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL
);
