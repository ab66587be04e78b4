-- Accounts, the devices that are logged in to them, and the keys that vouch for both.

CREATE TABLE users (
    id              uuid PRIMARY KEY,
    -- As typed, in NFKC; what is compared is username_fold.
    username        text NOT NULL,
    username_fold   text NOT NULL,
    display_name    text NOT NULL,
    bio             text NOT NULL DEFAULT '',
    -- Absent once the account is purged.
    email           text,
    -- What e-mail addresses are compared by; absent once the account is deleted, so the address may register again.
    email_key       text,
    -- PHC string; absent once the account is deleted.
    password_hash   text,
    roles           text[] NOT NULL DEFAULT '{}' CHECK (roles <@ ARRAY['moderator', 'admin']),
    -- Grows with every change of what others may read; the ETag.
    version         bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    suspended_at    timestamptz,
    deleted_at      timestamptz,
    purged_at       timestamptz
);
CREATE UNIQUE INDEX users_username_fold_key ON users (username_fold) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_email_key_key ON users (email_key);
CREATE INDEX users_updated_at ON users (updated_at);
CREATE INDEX users_to_purge ON users (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;

-- What a username looks like, in every way it may be written: nobody else may take a name that looks like it.
CREATE TABLE username_claims (
    look        text PRIMARY KEY,
    user_id     uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    -- The name of a deleted account is kept from others until then.
    held_until  timestamptz
);
CREATE INDEX username_claims_user_id ON username_claims (user_id);
CREATE INDEX username_claims_held_until ON username_claims (held_until) WHERE held_until IS NOT NULL;

-- One logged-in device: a family of refresh tokens of which only the newest is good.
CREATE TABLE devices (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name            text NOT NULL,
    platform        text NOT NULL,
    -- Network the device was last seen from: /24 of IPv4, /48 of IPv6. The whole address is never stored.
    network         text,
    -- SHA-256 of the half of a refresh token that all tokens of the family share.
    family_hash     bytea NOT NULL CHECK (octet_length(family_hash) = 32),
    -- SHA-256 of the other half of the newest token, and of the one before it.
    secret_hash     bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    previous_hash   bytea CHECK (octet_length(previous_hash) = 32),
    -- SHA-256 of the Idempotency-Key of the newest rotation: who repeats it is the one who asked.
    rotation_hash   bytea CHECK (octet_length(rotation_hash) = 32),
    rotated_at      timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    last_seen_at    timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz,
    revoked_why     text CHECK (revoked_why IN ('logged_out', 'removed', 'reuse', 'password', 'suspended', 'deleted', 'evicted'))
);
CREATE UNIQUE INDEX devices_family_hash_key ON devices (family_hash);
CREATE INDEX devices_user_id ON devices (user_id, id) WHERE revoked_at IS NULL;
CREATE INDEX devices_revoked_at ON devices (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX devices_expires_at ON devices (expires_at);

CREATE TABLE totp (
    user_id         uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    sealed_secret   bytea NOT NULL,
    created_at      timestamptz NOT NULL,
    -- Absent until the first right code: only then is it asked for.
    confirmed_at    timestamptz,
    -- The newest time step whose code was accepted; that code and older ones are spent.
    last_step       bigint NOT NULL DEFAULT 0,
    -- Wrong codes in a row, and until when no further one is looked at.
    failures        integer NOT NULL DEFAULT 0,
    locked_until    timestamptz
);

CREATE TABLE recovery_codes (
    user_id     uuid NOT NULL REFERENCES totp ON DELETE CASCADE,
    -- SHA-256; a code has 80 random bits, so a slow hash would add nothing.
    code_hash   bytea NOT NULL CHECK (octet_length(code_hash) = 32),
    used_at     timestamptz,
    PRIMARY KEY (user_id, code_hash)
);

-- The keys that sign access tokens, newest last. A key is published before it signs and verified with until its tokens are dead.
CREATE TABLE signing_keys (
    id              uuid PRIMARY KEY,
    public_key      bytea NOT NULL CHECK (octet_length(public_key) = 32),
    sealed_private  bytea NOT NULL,
    created_at      timestamptz NOT NULL,
    signs_from      timestamptz NOT NULL
);

-- The one key everything at rest is sealed with, itself sealed with a secret that is not in this database.
CREATE TABLE data_key (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- What it is sealed with: 'configured', 'file', 'password' (of the database's user) or 'open' (with nothing).
    sealed_by   text NOT NULL CHECK (sealed_by IN ('configured', 'file', 'password', 'open')),
    salt        bytea NOT NULL,
    sealed      bytea NOT NULL,
    created_at  timestamptz NOT NULL
);
