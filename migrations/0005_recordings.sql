-- What is kept of broadcasts. The media is in the object store; a row says that it is there and what is known of it.

CREATE TABLE recordings (
    id              uuid PRIMARY KEY,
    -- The objects outlive the stream: they are deleted after it, and the row last.
    stream_id       uuid REFERENCES streams ON DELETE SET NULL,
    owner_id        uuid NOT NULL REFERENCES users,
    title           text NOT NULL,
    -- The folder of its objects. It has 80 random bits and stands in every address, so who has not been told it does not find them.
    folder          text NOT NULL,
    -- The broadcast it is of; one that goes on elsewhere goes on being this recording.
    broadcast       text NOT NULL,
    state           text NOT NULL CHECK (state IN ('recording', 'ready')),
    -- Who writes it, and when it last said so.
    node_id         uuid NOT NULL,
    heard_at        timestamptz NOT NULL,
    started_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    duration_ms     bigint NOT NULL DEFAULT 0 CHECK (duration_ms >= 0),
    size_bytes      bigint NOT NULL DEFAULT 0 CHECK (size_bytes >= 0),
    segments        integer NOT NULL DEFAULT 0 CHECK (segments >= 0),
    thumbnail       boolean NOT NULL DEFAULT false,
    deleted_at      timestamptz,
    CHECK (state = 'recording' OR ended_at IS NOT NULL)
);
CREATE UNIQUE INDEX recordings_broadcast_key ON recordings (stream_id, broadcast);
CREATE INDEX recordings_stream ON recordings (stream_id, id) WHERE deleted_at IS NULL;
CREATE INDEX recordings_open ON recordings (heard_at) WHERE state = 'recording';
CREATE INDEX recordings_gone ON recordings (id) WHERE deleted_at IS NOT NULL OR stream_id IS NULL;
CREATE INDEX recordings_ended ON recordings (ended_at) WHERE state = 'ready' AND deleted_at IS NULL;
