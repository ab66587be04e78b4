-- Requests with an Idempotency-Key: running ones, and the answers of those that are done.
-- Neither the key nor the answer can be read here: the id is a keyed hash, the answer is sealed under the key.
CREATE TABLE idempotent_requests (
    id           bytea PRIMARY KEY CHECK (octet_length(id) = 32),
    -- Which request it was: a keyed hash of method, target, type and body.
    fingerprint  bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    -- Who runs it, and until when others stay away; renewed while it runs.
    lease        uuid NOT NULL,
    leased_until timestamptz NOT NULL,
    -- The sealed answer, once there is one.
    answer       bytea,
    expires_at   timestamptz NOT NULL
);

CREATE INDEX idempotent_requests_expires_at ON idempotent_requests (expires_at);
