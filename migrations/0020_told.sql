-- Chat enters the event log: what is said, and how far people have it.
--
-- The functions write the bytes of the messages in proto/nova/events/v1/events.proto; a test reads them with the engine's own decoder.

-- They are expressions of built-in functions without a subquery, so that PostgreSQL puts them in place instead of calling them: a hundred
-- conversations in one batch cost microseconds.

-- A number as Protocol Buffers write it (a base 128 varint), always in five bytes: below 2^35, which no conversation reaches.
CREATE FUNCTION pb_varint5(_n bigint) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT set_byte(set_byte(set_byte(set_byte(set_byte('\x0000000000'::bytea,
        0, (_n & 127 | 128)::integer), 1, (_n >> 7 & 127 | 128)::integer), 2, (_n >> 14 & 127 | 128)::integer),
        3, (_n >> 21 & 127 | 128)::integer), 4, (_n >> 28 & 127)::integer)
$$;

-- `MessagesSent.ranges`.
CREATE FUNCTION sent_range(_conversation uuid, _epoch integer, _first bigint, _last bigint) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT '\x12240a10'::bytea || uuid_send(_conversation) || '\x10'::bytea || pb_varint5(_epoch)
        || '\x18'::bytea || pb_varint5(_first) || '\x20'::bytea || pb_varint5(_last)
$$;

-- `ReceiptsMoved.receipts`; of a time that is read once, in milliseconds since 1970 (below 2^42: until 2109).
CREATE FUNCTION receipt_moved(_conversation uuid, _user uuid, _delivered bigint, _read bigint, _at_ms bigint) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT '\x0a370a10'::bytea || uuid_send(_conversation) || '\x1210'::bytea || uuid_send(_user)
        || '\x18'::bytea || pb_varint5(_delivered) || '\x20'::bytea || pb_varint5(_read) || '\x28'::bytea
        || set_byte(pb_varint5(_at_ms), 4, (_at_ms >> 28 & 127 | 128)::integer)
        || set_byte('\x00'::bytea, 0, (_at_ms >> 35 & 127)::integer)
$$;

-- The part of a topic with so many parts a key belongs to: the last eight bytes as one number, modulo that. The parts are 2, 3 or 6, and of
-- these every power of 256 but the first leaves the same remainder.
CREATE FUNCTION event_part(_key uuid, _parts smallint) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ((get_byte(uuid_send(_key), 15) + 256 % _parts * (
        get_byte(uuid_send(_key), 8) + get_byte(uuid_send(_key), 9) + get_byte(uuid_send(_key), 10) + get_byte(uuid_send(_key), 11)
        + get_byte(uuid_send(_key), 12) + get_byte(uuid_send(_key), 13) + get_byte(uuid_send(_key), 14)
    )) % _parts)::smallint
$$;

-- A new id of an event of that time (UUID version 7).
CREATE FUNCTION event_id_at(_at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid()) PLACING substr(int8send(floor(extract(epoch FROM _at) * 1000)::bigint), 3) FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid
$$;

-- As in 0009, and what was appended is told.
CREATE OR REPLACE FUNCTION append_entries(
    _conversation uuid[], _sender uuid[], _kind smallint[], _client_msg_id text[], _hash bytea[], _target bigint[],
    _sender_text text[], _body text[]
) RETURNS TABLE (ord integer, status smallint, epoch integer, seq bigint, at timestamptz, body text)
LANGUAGE plpgsql VOLATILE
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
               END AS nth_of_target,
               row_number() OVER (PARTITION BY i.conversation, i.sender, i.kind = 1 ORDER BY i.ord) AS nth_of_sender
        FROM unnest(_conversation, _sender, _kind, _client_msg_id, _hash, _target, _sender_text, _body)
             WITH ORDINALITY AS i (conversation, sender, kind, client_msg_id, hash, target, sender_text, body, ord)
    ), seated AS MATERIALIZED (
        SELECT g.*, c.id AS known, c.kind AS conversation_kind, c.epoch, c.last_seq, c.created_by, c.direct_low, c.direct_high,
               chat.stream_id, seat.is_moderator, seat.muted_until,
               -- Who is slowed down in this chat, and until when.
               chat.slow_mode_s > 0 AND g.kind = 1 AND g.sender <> c.created_by AND NOT coalesce(seat.is_moderator, false) AS is_slow,
               seat.said_at + make_interval(secs => chat.slow_mode_s) AS slow_until
        FROM given g
        LEFT JOIN conversations c ON c.id = g.conversation
        LEFT JOIN stream_chats chat ON c.kind = 'live' AND chat.conversation_id = g.conversation
        LEFT JOIN chat_seats seat ON c.kind = 'live' AND seat.conversation_id = g.conversation AND seat.user_id = g.sender
    ), judged AS MATERIALIZED (
        SELECT g.*, e.seq AS old_seq, e.at AS old_at, t.body -> 'visible_to' AS visible_to, t.body -> 'location' AS place,
               (CASE
                   WHEN g.known IS NULL THEN 3
                   WHEN e.seq IS NOT NULL THEN CASE WHEN e.content_hash = g.hash THEN 1 ELSE 2 END
                   WHEN g.nth_of_key > 1 OR g.nth_of_target > 1 THEN 9
                   WHEN m.user_id IS NULL AND g.conversation_kind <> 'live' THEN 4
                   WHEN g.conversation_kind = 'direct' AND is_blocked(g.direct_low, g.direct_high) THEN 8
                   WHEN g.conversation_kind = 'live' AND g.sender <> g.created_by AND is_blocked(g.created_by, g.sender) THEN 8
                   WHEN g.conversation_kind = 'live' AND NOT may_watch(g.stream_id, g.created_by, g.sender) THEN 4
                   WHEN g.muted_until > _now AND g.kind <> 3 THEN 11
                   WHEN g.is_slow AND g.nth_of_sender > 1 THEN 9
                   WHEN g.is_slow AND g.slow_until > _now THEN 10
                   WHEN g.target IS NULL THEN 0
                   WHEN t.seq IS NULL OR t.kind <> 1 THEN 5
                   -- Who is not shown a message cannot react to it or answer it either.
                   WHEN t.body ? 'visible_to' AND NOT t.body -> 'visible_to' ? g.sender_text THEN 5
                   WHEN g.kind = 1 THEN 0
                   WHEN t.body ? 'deleted' THEN 7
                   WHEN g.kind = 2 AND t.sender <> g.sender THEN 6
                   WHEN g.kind = 2 AND g.body ? 'location'
                        AND coalesce((t.body -> 'location' ->> 'until')::timestamptz <= _now, true) THEN 5
                   WHEN g.kind = 3 AND t.sender <> g.sender AND g.created_by IS DISTINCT FROM g.sender
                        AND coalesce(m.role, 'member') = 'member' AND NOT coalesce(g.is_moderator, false) THEN 6
                   ELSE 0
               END)::smallint AS status
        FROM seated g
        LEFT JOIN members m ON m.conversation_id = g.conversation AND m.user_id = g.sender AND m.left_at IS NULL
        LEFT JOIN entries e ON e.conversation_id = g.conversation AND e.sender = g.sender AND e.client_msg_id = g.client_msg_id
        LEFT JOIN entries t ON t.conversation_id = g.conversation AND t.seq = g.target
    ), answered AS MATERIALIZED (
        SELECT j.ord, j.status, j.epoch, j.conversation, j.sender, j.kind, j.client_msg_id, j.hash, j.target, j.is_slow,
               j.kind = 2 AND j.body ? 'location' AS is_move,
               j.body
                   || CASE WHEN j.visible_to IS NOT NULL AND j.kind IN (2, 4)
                       THEN jsonb_build_object('visible_to', j.visible_to) ELSE '{}' END
                   || CASE WHEN j.kind = 2 AND j.body ? 'location' AND NOT j.body -> 'location' ? 'ended'
                       THEN jsonb_build_object('location', j.place || (j.body -> 'location')) ELSE '{}' END
               AS body,
               (j.visible_to IS NOT NULL AND j.kind IN (2, 4)) OR (j.kind = 2 AND j.body ? 'location') AS changed,
               CASE j.status
                   WHEN 0 THEN j.last_seq + count(*) FILTER (WHERE j.status = 0) OVER (PARTITION BY j.conversation ORDER BY j.ord)
                   WHEN 1 THEN j.old_seq
               END AS new_seq,
               CASE j.status WHEN 10 THEN j.slow_until WHEN 11 THEN j.muted_until ELSE coalesce(j.old_at, _now) END AS at
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
    ), slowed AS (
        INSERT INTO chat_seats AS seat (conversation_id, user_id, said_at)
        SELECT n.conversation, n.sender, _now FROM numbered n WHERE n.is_slow
        ON CONFLICT (conversation_id, user_id) DO UPDATE SET said_at = excluded.said_at
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
    ), left_behind AS (
        -- Where somebody was is not kept: with each move what earlier ones said goes.
        UPDATE entries t SET body = t.body || '{"location": {"ended": true}}'
        FROM numbered n, LATERAL (
            SELECT e.seq FROM entries e
            WHERE e.conversation_id = n.conversation AND e.target = n.target AND e.kind = 2 AND e.body ? 'location' OFFSET 0
        ) move
        WHERE n.is_move AND t.conversation_id = n.conversation AND t.seq = move.seq
    ), ranges AS (
        SELECT n.conversation, event_part(n.conversation, 3::smallint) AS part, min(n.epoch) AS epoch, min(n.new_seq) AS first, max(n.new_seq) AS last
        FROM numbered n GROUP BY n.conversation
    ), told AS (
        -- Under the locks of the conversations: what is said in one of them is told in the order of its numbers.
        INSERT INTO outbox (event_id, topic, part, key, kind, schema_version, version, payload, at)
        SELECT event_id_at(_now), 4, r.part, (array_agg(r.conversation))[1], 'MessagesSent', 1, 0,
               string_agg(sent_range(r.conversation, r.epoch, r.first, r.last), ''), _now
        FROM ranges r GROUP BY r.part
    )
    SELECT a.ord, a.status, a.epoch, a.new_seq, a.at, CASE WHEN a.changed AND a.status = 0 THEN a.body::text END
    FROM answered a ORDER BY a.ord;
END
$$;
