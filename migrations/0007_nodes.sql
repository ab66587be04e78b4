-- Which nodes there are, and what one needs to go on with a broadcast another has left.

CREATE TABLE nodes (
    id          uuid PRIMARY KEY,
    -- Where the other nodes reach it.
    url         text NOT NULL,
    heard_at    timestamptz NOT NULL
);

ALTER TABLE streams
    ADD COLUMN broadcast        text,
    ADD COLUMN next_msn         bigint NOT NULL DEFAULT 0,
    ADD COLUMN discontinuities  bigint NOT NULL DEFAULT 0,
    ADD COLUMN sessions         bigint NOT NULL DEFAULT 0;
