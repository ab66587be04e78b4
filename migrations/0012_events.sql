-- The event log. A change and its row in the outbox commit together; one sequencer gives committed rows their places in the log;
-- groups of consumers read it at their own pace.

-- What waits for its place. Ids are given one after another, so the rows of transactions that take turns are in order.
CREATE TABLE outbox (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id        uuid NOT NULL,
    topic           smallint NOT NULL,
    part            smallint NOT NULL,
    -- Events of one key are in order.
    key             uuid NOT NULL,
    kind            text NOT NULL,
    schema_version  smallint NOT NULL,
    -- The version of what changed; what is not newer than what a consumer has is nothing to it.
    version         bigint NOT NULL,
    payload         bytea NOT NULL,
    at              timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The last place given in each part of each topic.
CREATE TABLE event_parts (
    topic           smallint NOT NULL,
    part            smallint NOT NULL,
    head            bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, part)
) WITH (fillfactor = 50);

-- One partition for each day; retention drops whole ones. Places are dense: 1, 2, 3 … in each part.
CREATE TABLE event_log (
    topic           smallint NOT NULL,
    part            smallint NOT NULL,
    place           bigint NOT NULL,
    logged_at       timestamptz NOT NULL,
    event_id        uuid NOT NULL,
    key             uuid NOT NULL,
    kind            text NOT NULL,
    schema_version  smallint NOT NULL,
    version         bigint NOT NULL,
    payload         bytea NOT NULL,
    at              timestamptz NOT NULL,
    PRIMARY KEY (topic, part, place, logged_at)
) PARTITION BY RANGE (logged_at);

-- How far each group has come. Whoever holds the row's lock owns the part until its transaction ends: a dead owner holds nothing.
CREATE TABLE event_groups (
    name            text NOT NULL,
    topic           smallint NOT NULL,
    part            smallint NOT NULL,
    place           bigint NOT NULL DEFAULT 0,
    is_paused       boolean NOT NULL DEFAULT false,
    -- Tries of what stands next that failed, why, and when to try again.
    failures        integer NOT NULL DEFAULT 0,
    error           text,
    retry_at        timestamptz,
    PRIMARY KEY (name, topic, part)
) WITH (fillfactor = 50);

-- What a group could not take, with the reason; the part went on without it.
CREATE TABLE dead_letters (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_name      text NOT NULL,
    topic           smallint NOT NULL,
    part            smallint NOT NULL,
    place           bigint NOT NULL,
    event_id        uuid NOT NULL,
    key             uuid NOT NULL,
    kind            text NOT NULL,
    schema_version  smallint NOT NULL,
    version         bigint NOT NULL,
    payload         bytea NOT NULL,
    at              timestamptz NOT NULL,
    error           text NOT NULL,
    failed_at       timestamptz NOT NULL
);
CREATE INDEX dead_letters_group ON dead_letters (group_name, id);

-- Moves up to so many committed rows from the outbox into the log; says how many. One caller at a time.
CREATE FUNCTION sequence_events(_rows integer) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    WITH moved AS (
        DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT _rows) RETURNING *
    ), counted AS (
        SELECT topic, part, count(*) AS n FROM moved GROUP BY topic, part
    ), tops AS (
        INSERT INTO event_parts AS p (topic, part, head) SELECT topic, part, n FROM counted
        ON CONFLICT (topic, part) DO UPDATE SET head = p.head + excluded.head
        RETURNING p.topic, p.part, p.head
    ), logged AS (
        INSERT INTO event_log (topic, part, place, logged_at, event_id, key, kind, schema_version, version, payload, at)
        SELECT m.topic, m.part, t.head - c.n + row_number() OVER (PARTITION BY m.topic, m.part ORDER BY m.id), now(),
               m.event_id, m.key, m.kind, m.schema_version, m.version, m.payload, m.at
        FROM moved m JOIN tops t USING (topic, part) JOIN counted c USING (topic, part)
    )
    SELECT count(*) FROM moved
$$;

-- Makes the partitions of today and the days ahead, drops those whose last event is older than so many days; says how many it dropped.
CREATE FUNCTION keep_event_days(_ahead integer, _keep integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    _today date := (now() AT TIME ZONE 'UTC')::date;
    _day date;
    _old text;
    _dropped integer := 0;
BEGIN
    FOR n IN 0.._ahead LOOP
        _day := _today + n;
        IF to_regclass('event_log_' || to_char(_day, 'YYYYMMDD')) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF event_log FOR VALUES FROM (%L) TO (%L)',
                'event_log_' || to_char(_day, 'YYYYMMDD'), _day::timestamp AT TIME ZONE 'UTC', (_day + 1)::timestamp AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
    FOR _old IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'event_log'::regclass AND c.relname ~ '^event_log_[0-9]{8}$'
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < _today - _keep
    LOOP
        EXECUTE format('DROP TABLE %I', _old);
        _dropped := _dropped + 1;
    END LOOP;
    RETURN _dropped;
END
$$;
SELECT keep_event_days(2, 7);
