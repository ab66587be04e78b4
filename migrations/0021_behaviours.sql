-- What readers do, as their clients tell it: each event once, however often it is sent.

-- The ids that clients gave, for as long as they may be sent again. The events themselves are in the log.
CREATE TABLE behaviours (
    user_id         uuid NOT NULL,
    event_id        uuid NOT NULL,
    at              timestamptz NOT NULL,
    PRIMARY KEY (user_id, event_id)
);
CREATE INDEX behaviours_at ON behaviours (at);

-- A dead letter that its group is to be given once more.
ALTER TABLE dead_letters ADD COLUMN is_due boolean NOT NULL DEFAULT false;
CREATE INDEX dead_letters_due ON dead_letters (group_name, id) WHERE is_due;

-- As in 0012, with a time to go by. Who reads is not held up: what needs the whole log to itself waits for the next look.
CREATE FUNCTION keep_event_days(_ahead integer, _keep integer, _now timestamptz) RETURNS integer LANGUAGE plpgsql VOLATILE
SET lock_timeout = '500ms' AS $$
DECLARE
    _today date := (_now AT TIME ZONE 'UTC')::date;
    _day date;
    _name text;
    _dropped integer := 0;
BEGIN
    FOR n IN 0.._ahead LOOP
        _day := _today + n;
        _name := 'event_log_' || to_char(_day, 'YYYYMMDD');
        IF to_regclass(_name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE TABLE %I PARTITION OF event_log FOR VALUES FROM (%L) TO (%L)',
                    _name, _day::timestamp AT TIME ZONE 'UTC', (_day + 1)::timestamp AT TIME ZONE 'UTC');
            EXCEPTION WHEN lock_not_available THEN
                -- Somebody reads. There is time until it is that day.
                IF n = 0 THEN RAISE; END IF;
            END;
        END IF;
    END LOOP;
    FOR _name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'event_log'::regclass AND c.relname ~ '^event_log_[0-9]{8}$'
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < _today - _keep
        ORDER BY c.relname
    LOOP
        BEGIN
            EXECUTE format('DROP TABLE %I', _name);
            _dropped := _dropped + 1;
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
    END LOOP;
    RETURN _dropped;
END
$$;
