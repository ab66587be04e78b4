-- Calls in conversations, from their first ring to their end.

CREATE TABLE calls (
    id              uuid PRIMARY KEY,
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    -- Where people meet.
    room_id         uuid NOT NULL UNIQUE,
    caller_id       uuid NOT NULL REFERENCES users,
    media           text NOT NULL CHECK (media IN ('audio', 'video')),
    -- Between two people: it ends when one of them leaves.
    is_direct       boolean NOT NULL,
    state           text NOT NULL CHECK (state IN ('ringing', 'active', 'ended')),
    outcome         text CHECK (outcome IN ('answered', 'missed', 'declined', 'cancelled', 'failed')),
    -- Whose devices ring, and who of them has declined.
    called          uuid[] NOT NULL,
    declined        uuid[] NOT NULL DEFAULT '{}',
    -- Who answered first, on which device.
    answered_by     uuid,
    answered_on     uuid,
    started_at      timestamptz NOT NULL,
    ring_until      timestamptz NOT NULL,
    answered_at     timestamptz,
    ended_at        timestamptz,
    -- When the node of its room last said that somebody is in it; a call nobody vouches for is over.
    heard_at        timestamptz NOT NULL,
    CHECK ((state = 'ended') = (outcome IS NOT NULL AND ended_at IS NOT NULL)),
    CHECK ((answered_by IS NULL) = (answered_on IS NULL))
) WITH (fillfactor = 80);
-- There is one at a time in a conversation.
CREATE UNIQUE INDEX calls_running_key ON calls (conversation_id) WHERE state <> 'ended';
CREATE INDEX calls_ring_until ON calls (ring_until) WHERE state = 'ringing';
CREATE INDEX calls_heard_at ON calls (heard_at) WHERE state <> 'ended';
-- What rings for somebody whose device has just connected.
CREATE INDEX calls_called ON calls USING gin (called) WHERE state = 'ringing';
