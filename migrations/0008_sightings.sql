-- When people were last seen: written when their last socket closes and when the first opens, so what a dead node could not write is late by no
-- more than the time they were connected.
CREATE TABLE sightings (
    user_id     uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    seen_at     timestamptz NOT NULL
) WITH (fillfactor = 70);
