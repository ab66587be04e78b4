-- Conversations: one gapless log each, its members, and how far everybody has read.

CREATE TABLE conversations (
    id              uuid PRIMARY KEY,
    kind            text NOT NULL CHECK (kind IN ('direct', 'group', 'live')),
    title           text,
    -- The two people of a direct conversation, the smaller id first: the same pair gives the same conversation.
    direct_low      uuid REFERENCES users,
    direct_high     uuid REFERENCES users,
    -- Changes only when history was lost (a restore from a backup): then resuming must say "reload".
    epoch           integer NOT NULL DEFAULT 1,
    -- The number of the newest entry; entries 1 to last_seq exist without a hole, less what retention removed.
    last_seq        bigint NOT NULL DEFAULT 0,
    -- Entries up to this one were removed by retention.
    removed_seq     bigint NOT NULL DEFAULT 0,
    -- Seconds an entry is kept; absent means for ever.
    retention_s     bigint CHECK (retention_s > 0),
    -- Grows with every change of what PATCH changes; the ETag.
    version         bigint NOT NULL DEFAULT 1,
    -- Absent for what the engine itself made.
    created_by      uuid REFERENCES users,
    created_at      timestamptz NOT NULL,
    -- When its newest entry was committed; lists of conversations go by it.
    last_at         timestamptz NOT NULL,
    CHECK ((kind = 'direct') = (direct_low IS NOT NULL AND direct_high IS NOT NULL)),
    CHECK (direct_low < direct_high)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX conversations_direct_key ON conversations (direct_low, direct_high) WHERE kind = 'direct';
CREATE INDEX conversations_retention ON conversations (id) WHERE retention_s IS NOT NULL;

CREATE TABLE members (
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id         uuid NOT NULL REFERENCES users,
    role            text NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    joined_at       timestamptz NOT NULL,
    -- What lies past it is pushed to the member's devices; what lies before is history to be asked for.
    joined_seq      bigint NOT NULL,
    -- Forward only; unread is last_seq minus it, never counted on its own.
    read_seq        bigint NOT NULL DEFAULT 0,
    delivered_seq   bigint NOT NULL DEFAULT 0,
    muted_until     timestamptz,
    left_at         timestamptz,
    PRIMARY KEY (conversation_id, user_id)
) WITH (fillfactor = 80);
CREATE INDEX members_user_id ON members (user_id) WHERE left_at IS NULL;

CREATE TABLE entries (
    -- No foreign keys: append_entries, which alone writes here, holds the conversation's row and has looked at the member's; the checks
    -- would cost a third of an append.
    conversation_id uuid NOT NULL,
    seq             bigint NOT NULL,
    -- 1 message, 2 edit, 3 delete, 4 reaction, 5 member, 6 call, 7 live, 8 title
    kind            smallint NOT NULL,
    sender          uuid NOT NULL,
    client_msg_id   text NOT NULL,
    -- The first 16 bytes of the SHA-256 of what was sent: a retry is told from another message with the same id.
    content_hash    bytea NOT NULL,
    -- The entry an edit, a delete or a reaction is about.
    target          bigint,
    at              timestamptz NOT NULL,
    body            jsonb NOT NULL,
    PRIMARY KEY (conversation_id, seq)
);
-- For as long as an entry is kept, sending it again finds it.
CREATE UNIQUE INDEX entries_client_msg_id_key ON entries (conversation_id, sender, client_msg_id);
CREATE INDEX entries_target ON entries (conversation_id, target) WHERE target IS NOT NULL;
-- Where somebody is, is shown until a time they chose; the sweep takes it away then.
CREATE INDEX entries_location_until ON entries ((body -> 'location' ->> 'until'))
    WHERE body -> 'location' ->> 'until' IS NOT NULL;

-- How far a device has everything. Without a row: what lies past its user's joining and its own log-in.
CREATE TABLE device_cursors (
    device_id       uuid NOT NULL REFERENCES devices ON DELETE CASCADE,
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    seq             bigint NOT NULL,
    PRIMARY KEY (device_id, conversation_id)
) WITH (fillfactor = 80);

CREATE TABLE blocks (
    blocker         uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    blocked         uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (blocker, blocked),
    CHECK (blocker <> blocked)
);
CREATE INDEX blocks_blocked ON blocks (blocked);

-- Whether either of two people has blocked the other.
CREATE FUNCTION is_blocked(_a uuid, _b uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM blocks WHERE blocker = _a AND blocked = _b)
        OR EXISTS (SELECT FROM blocks WHERE blocker = _b AND blocked = _a)
$$;

-- Appends a batch of entries to many conversations in one round trip.
--
-- Every array has one element per entry, in the order the entries are to be numbered. The conversations are locked in the
-- order of their ids, so two nodes never wait for each other in a circle; the statement after it sees everything committed
-- before the locks were given, because each statement of a VOLATILE function takes a snapshot of its own (READ COMMITTED).
-- Duplicates and refusals take no number: a log has no hole. Time is read under the locks, so it never runs against the numbers.
--
-- _sender_text: the sender as it stands in the visible_to of a body; needed where there is a target.
-- _target: the entry an edit, a delete or a reaction changes, or the one a message answers. When another entry of the same batch has
-- the same key or changes the same entry, the later one is not decided here but asked for again (status 9): its answer depends on
-- what the first becomes.
--
-- status: 0 appended, 1 duplicate (the earlier number), 2 same id with other content, 3 no such conversation, 4 not a member,
-- 5 the target is not there, 6 the target is not yours to change, 7 the target was deleted, 8 one has blocked the other, 9 ask again
--
-- body is given back where what was stored is not what was sent: an edit is shown to whom its message is shown to.
CREATE FUNCTION append_entries(
    _conversation uuid[], _sender uuid[], _kind smallint[], _client_msg_id text[], _hash bytea[], _target bigint[],
    _sender_text text[], _body text[]
) RETURNS TABLE (ord integer, status smallint, epoch integer, seq bigint, at timestamptz, body text)
LANGUAGE plpgsql VOLATILE
-- A few rows are looked up by their keys in tables of any size; a plan made while they were small must not become a scan of all.
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    _now timestamptz;
BEGIN
    PERFORM FROM conversations c WHERE c.id = ANY (_conversation) ORDER BY c.id FOR NO KEY UPDATE;
    _now := date_trunc('milliseconds', clock_timestamp());

    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT i.ord::integer, i.conversation, i.sender, i.kind, i.client_msg_id, i.hash, i.target, i.sender_text,
               i.body::jsonb AS body,
               row_number() OVER (PARTITION BY i.conversation, i.sender, i.client_msg_id ORDER BY i.ord) AS nth_of_key,
               CASE WHEN i.kind IN (2, 3) THEN
                   row_number() OVER (PARTITION BY i.conversation, i.target, i.kind IN (2, 3) ORDER BY i.ord) ELSE 1
               END AS nth_of_target
        FROM unnest(_conversation, _sender, _kind, _client_msg_id, _hash, _target, _sender_text, _body)
             WITH ORDINALITY AS i (conversation, sender, kind, client_msg_id, hash, target, sender_text, body, ord)
    ), judged AS MATERIALIZED (
        SELECT g.*, c.epoch, c.last_seq, e.seq AS old_seq, e.at AS old_at, t.body -> 'visible_to' AS visible_to,
               (CASE
                   WHEN c.id IS NULL THEN 3
                   WHEN e.seq IS NOT NULL THEN CASE WHEN e.content_hash = g.hash THEN 1 ELSE 2 END
                   WHEN g.nth_of_key > 1 OR g.nth_of_target > 1 THEN 9
                   WHEN m.user_id IS NULL AND c.kind <> 'live' THEN 4
                   WHEN c.kind = 'direct' AND is_blocked(c.direct_low, c.direct_high) THEN 8
                   WHEN g.target IS NULL THEN 0
                   WHEN t.seq IS NULL OR t.kind <> 1 THEN 5
                   -- Who is not shown a message cannot react to it or answer it either.
                   WHEN t.body ? 'visible_to' AND NOT t.body -> 'visible_to' ? g.sender_text THEN 5
                   WHEN g.kind = 1 THEN 0
                   WHEN t.body ? 'deleted' THEN 7
                   WHEN g.kind = 2 AND t.sender <> g.sender THEN 6
                   WHEN g.kind = 3 AND t.sender <> g.sender AND c.created_by IS DISTINCT FROM g.sender
                        AND coalesce(m.role, 'member') = 'member' THEN 6
                   ELSE 0
               END)::smallint AS status
        FROM given g
        LEFT JOIN conversations c ON c.id = g.conversation
        LEFT JOIN members m ON m.conversation_id = g.conversation AND m.user_id = g.sender AND m.left_at IS NULL
        LEFT JOIN entries e ON e.conversation_id = g.conversation AND e.sender = g.sender AND e.client_msg_id = g.client_msg_id
        LEFT JOIN entries t ON t.conversation_id = g.conversation AND t.seq = g.target
    ), answered AS MATERIALIZED (
        SELECT j.ord, j.status, j.epoch, j.conversation, j.sender, j.kind, j.client_msg_id, j.hash, j.target,
               CASE WHEN j.visible_to IS NOT NULL AND j.kind IN (2, 4)
                   THEN j.body || jsonb_build_object('visible_to', j.visible_to) ELSE j.body
               END AS body,
               j.visible_to IS NOT NULL AND j.kind IN (2, 4) AS changed,
               CASE j.status
                   WHEN 0 THEN j.last_seq + count(*) FILTER (WHERE j.status = 0) OVER (PARTITION BY j.conversation ORDER BY j.ord)
                   WHEN 1 THEN j.old_seq
               END AS new_seq,
               coalesce(j.old_at, _now) AS at
        FROM judged j
    ), numbered AS MATERIALIZED (
        SELECT * FROM answered WHERE status = 0
    ), written AS (
        INSERT INTO entries (conversation_id, seq, kind, sender, client_msg_id, content_hash, target, at, body)
        SELECT n.conversation, n.new_seq, n.kind, n.sender, n.client_msg_id, n.hash,
               CASE WHEN n.kind IN (2, 3, 4) THEN n.target END, _now, n.body
        FROM numbered n
    ), counted AS (
        UPDATE conversations c SET last_seq = top.seq, last_at = _now
        FROM (SELECT n.conversation, max(n.new_seq) AS seq FROM numbered n GROUP BY n.conversation) top
        WHERE c.id = top.conversation
    ), seen AS (
        -- Who writes has seen what came before.
        UPDATE members m SET read_seq = own.seq
        FROM (SELECT n.conversation, n.sender, max(n.new_seq) AS seq FROM numbered n GROUP BY n.conversation, n.sender) own
        WHERE m.conversation_id = own.conversation AND m.user_id = own.sender
    ), edited AS (
        UPDATE entries t SET body = t.body || (n.body - 'target') || jsonb_build_object('edited', n.new_seq)
        FROM numbered n WHERE n.kind = 2 AND t.conversation_id = n.conversation AND t.seq = n.target
    ), deleted AS (
        UPDATE entries t SET body = jsonb_build_object('deleted', n.new_seq)
        FROM numbered n WHERE n.kind = 3 AND t.conversation_id = n.conversation AND t.seq = n.target
    ), forgotten AS (
        -- What earlier edits said is gone with the message.
        UPDATE entries t SET body = jsonb_build_object('target', n.target, 'deleted', n.new_seq)
        FROM numbered n, LATERAL (
            -- OFFSET keeps this from becoming a join that begins at the edits of everybody.
            SELECT e.seq FROM entries e
            WHERE e.conversation_id = n.conversation AND e.target = n.target AND e.kind = 2 OFFSET 0
        ) edit
        WHERE n.kind = 3 AND t.conversation_id = n.conversation AND t.seq = edit.seq
    )
    SELECT a.ord, a.status, a.epoch, a.new_seq, a.at, CASE WHEN a.changed AND a.status = 0 THEN a.body::text END
    FROM answered a ORDER BY a.ord;
END
$$;
