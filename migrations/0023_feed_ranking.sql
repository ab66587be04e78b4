-- What ordered the snapshots that pages go on in.
ALTER TABLE feed_snapshots ADD COLUMN level text NOT NULL DEFAULT 'engagement';
ALTER TABLE feed_snapshots ADD COLUMN model text NOT NULL DEFAULT 'decay-1';

-- What operators decide about feeds while the engine runs. Every node looks each second.
CREATE TABLE feed_settings (
    name            text PRIMARY KEY,
    value           text NOT NULL,
    changed_at      timestamptz NOT NULL
);

-- Who is shown what, to find out which is better.
CREATE TABLE experiments (
    name            text PRIMARY KEY,
    -- In what is hashed, so that two experiments do not divide people the same way.
    salt            text NOT NULL,
    -- How many of 10,000 buckets of users are in it.
    ramp            integer NOT NULL CHECK (ramp BETWEEN 0 AND 10000),
    -- [{"name", "weight", "ranking"}]; the shape is checked where it is written and where it is read.
    arms            jsonb NOT NULL,
    created_at      timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL
);
