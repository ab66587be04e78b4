-- The orders of ranked feeds, for as long as somebody may go through their pages. They are a cache: a crash may take them.
CREATE UNLOGGED TABLE feed_snapshots (
    id              uuid PRIMARY KEY,
    reader          uuid NOT NULL,
    posts           uuid[] NOT NULL,
    created_at      timestamptz NOT NULL
);
CREATE INDEX feed_snapshots_created_at ON feed_snapshots (created_at);
