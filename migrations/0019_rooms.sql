-- Rooms for group calls, and which node each is on. Who is in one is known to that node alone.

CREATE TABLE rooms (
    id               uuid PRIMARY KEY,
    owner_id         uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title            text,
    -- Only its members come in.
    conversation_id  uuid REFERENCES conversations ON DELETE CASCADE,
    -- The call that is held in it; they end together.
    call_id          uuid UNIQUE REFERENCES calls ON DELETE CASCADE,
    max_participants integer NOT NULL CHECK (max_participants > 0),
    -- Newcomers wait until a host lets them in.
    has_lobby        boolean NOT NULL DEFAULT false,
    is_locked        boolean NOT NULL DEFAULT false,
    -- Whom a host has taken out.
    removed          uuid[] NOT NULL DEFAULT '{}',
    -- The node it is on; another takes it over once that one is gone.
    node_id          uuid,
    participants     integer NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL,
    -- When its node last said that it is there.
    used_at          timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX rooms_owner_id ON rooms (owner_id);
CREATE INDEX rooms_used_at ON rooms (used_at);

-- Where clients reach a node, when that is not where the other nodes reach it.
ALTER TABLE nodes ADD COLUMN public_url text;
