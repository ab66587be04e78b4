-- Live streams: who may publish to them, and the broadcast that is on the air or was the last.

CREATE TABLE streams (
    id              uuid PRIMARY KEY,
    owner_id        uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title           text NOT NULL,
    record          boolean NOT NULL,
    -- SHA-256 of the stream key, which is shown once and kept nowhere.
    key_hash        bytea NOT NULL CHECK (octet_length(key_hash) = 32),
    -- Grows with every change its owner makes; the ETag.
    version         bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    state           text NOT NULL DEFAULT 'idle' CHECK (state IN ('idle', 'live', 'ended')),
    -- Of the broadcast that is on the air or was the last: where its publisher is, and how it goes.
    node_id         uuid,
    started_at      timestamptz,
    ended_at        timestamptz,
    -- Its node says so every ten seconds; what is not heard of any more has gone down with its node.
    heard_at        timestamptz,
    viewers         integer NOT NULL DEFAULT 0 CHECK (viewers >= 0),
    viewers_peak    integer NOT NULL DEFAULT 0 CHECK (viewers_peak >= 0),
    watched_s       bigint NOT NULL DEFAULT 0 CHECK (watched_s >= 0),
    CHECK (state = 'idle' OR node_id IS NOT NULL AND started_at IS NOT NULL AND heard_at IS NOT NULL)
);
CREATE UNIQUE INDEX streams_key_hash_key ON streams (key_hash);
CREATE INDEX streams_owner_id ON streams (owner_id, id);
-- The list of what is on the air, newest first.
CREATE INDEX streams_live ON streams (started_at, id) WHERE state = 'live';
