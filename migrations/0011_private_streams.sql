-- Streams that not everybody may watch: their owner says who.

ALTER TABLE streams ADD COLUMN visibility text NOT NULL DEFAULT 'public' CHECK (visibility IN ('public', 'private'));

CREATE TABLE stream_viewers (
    stream_id   uuid NOT NULL REFERENCES streams ON DELETE CASCADE,
    user_id     uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (stream_id, user_id)
);
CREATE INDEX stream_viewers_user ON stream_viewers (user_id);

-- Whether somebody may see a stream and what is kept of it.
CREATE FUNCTION may_see_stream(_stream uuid, _owner uuid, _visibility text, _user uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT _owner = _user
        OR NOT is_blocked(_owner, _user)
           AND (_visibility = 'public' OR EXISTS (SELECT FROM stream_viewers WHERE stream_id = _stream AND user_id = _user))
$$;

CREATE OR REPLACE FUNCTION may_watch(_stream uuid, _owner uuid, _user uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT may_see_stream(id, _owner, visibility, _user) FROM streams WHERE id = _stream), false)
$$;
