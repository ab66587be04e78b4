-- Who follows whom, what people post, and what others make of it.
--
-- No row here refers to its users and posts by foreign key: a check would take a share lock on the row of an author with a million
-- followers, or of a post everybody likes, with every follow and like. Users and posts are marked as gone and never removed under them.

CREATE TABLE follows (
    follower        uuid NOT NULL,
    followee        uuid NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (follower, followee),
    CHECK (follower <> followee)
);
CREATE INDEX follows_followers ON follows (followee, created_at DESC, follower DESC);
CREATE INDEX follows_following ON follows (follower, created_at DESC, followee DESC);

-- Whose posts somebody follows and does not want to see all the same.
CREATE TABLE mutes (
    muter           uuid NOT NULL,
    muted           uuid NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (muter, muted),
    CHECK (muter <> muted)
);

CREATE TABLE posts (
    id              uuid PRIMARY KEY,
    author          uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('text', 'image', 'video', 'reel')),
    text            text NOT NULL,
    visibility      text NOT NULL CHECK (visibility IN ('public', 'followers', 'private')),
    -- As they are compared: without the sign, in NFKC, without case.
    tags            text[] NOT NULL,
    mentions        uuid[] NOT NULL,
    -- Grows with every edit and with the deletion; the ETag, and what events are compared by.
    version         bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL,
    edited_at       timestamptz,
    deleted_at      timestamptz
);
-- Ids grow with time, so the order of ids is the order of lists.
CREATE INDEX posts_author ON posts (author, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX posts_public ON posts (id DESC) WHERE deleted_at IS NULL AND visibility = 'public';
CREATE INDEX posts_tags ON posts USING gin (tags) WHERE deleted_at IS NULL;

-- What a post said before each edit.
CREATE TABLE post_versions (
    post_id         uuid NOT NULL,
    version         bigint NOT NULL,
    text            text NOT NULL,
    visibility      text NOT NULL,
    at              timestamptz NOT NULL,
    PRIMARY KEY (post_id, version)
);

CREATE TABLE post_likes (
    post_id         uuid NOT NULL,
    user_id         uuid NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (post_id, user_id)
);
CREATE INDEX post_likes_user ON post_likes (user_id, created_at DESC);

CREATE TABLE comments (
    id              uuid PRIMARY KEY,
    post_id         uuid NOT NULL,
    author          uuid NOT NULL,
    -- The comment this answers; such a one has none itself.
    parent          uuid,
    text            text NOT NULL,
    mentions        uuid[] NOT NULL,
    created_at      timestamptz NOT NULL,
    deleted_at      timestamptz
);
CREATE INDEX comments_post ON comments (post_id, id) WHERE parent IS NULL;
CREATE INDEX comments_parent ON comments (parent, id) WHERE parent IS NOT NULL;

-- Whether somebody may read a post: their own always, a private one never, nothing across a block, what is for followers when they follow.
CREATE FUNCTION may_read(_reader uuid, _author uuid, _visibility text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT _reader = _author OR (_visibility <> 'private' AND NOT is_blocked(_reader, _author)
        AND (_visibility = 'public' OR EXISTS (SELECT FROM follows WHERE follower = _reader AND followee = _author)))
$$;

-- Counters. What changes a number adds a row to counter_deltas in its own transaction, so nobody waits for anybody; the rows are folded
-- into counters in batches. A number is its counter and the deltas that are not folded yet, read in one snapshot: always exact.
--
-- what: 1 followers, 2 following, 3 posts (of a user), 4 likes, 5 comments (of a post), 6 replies (of a comment)
CREATE TABLE counters (
    subject         uuid NOT NULL,
    what            smallint NOT NULL,
    n               bigint NOT NULL,
    PRIMARY KEY (subject, what)
) WITH (fillfactor = 70);
CREATE TABLE counter_deltas (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject         uuid NOT NULL,
    what            smallint NOT NULL,
    by              integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX counter_deltas_subject ON counter_deltas (subject, what);

CREATE FUNCTION counted(_subject uuid, _what smallint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT n FROM counters WHERE subject = _subject AND what = _what), 0)
         + coalesce((SELECT sum(by) FROM counter_deltas WHERE subject = _subject AND what = _what), 0)::bigint
$$;

-- Folds up to so many deltas; says how many there were. Rows are written in the order of their keys, so two folds wait, never deadlock.
CREATE FUNCTION fold_counters(_rows integer) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    WITH taken AS (
        DELETE FROM counter_deltas WHERE id IN (
            SELECT id FROM counter_deltas ORDER BY id LIMIT _rows FOR UPDATE SKIP LOCKED
        ) RETURNING subject, what, by
    ), folded AS (
        INSERT INTO counters (subject, what, n)
        SELECT subject, what, sum(by) FROM taken GROUP BY subject, what ORDER BY subject, what
        ON CONFLICT (subject, what) DO UPDATE SET n = counters.n + excluded.n
    )
    SELECT count(*) FROM taken
$$;

CREATE FUNCTION count_follows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counter_deltas (subject, what, by)
    SELECT followee, 1, CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END FROM changed
    UNION ALL SELECT follower, 2, CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END FROM changed;
    RETURN NULL;
END
$$;
CREATE TRIGGER follows_added AFTER INSERT ON follows REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_follows();
CREATE TRIGGER follows_removed AFTER DELETE ON follows REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_follows();

CREATE FUNCTION count_likes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counter_deltas (subject, what, by)
    SELECT post_id, 4, CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END FROM changed;
    RETURN NULL;
END
$$;
CREATE TRIGGER post_likes_added AFTER INSERT ON post_likes REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_likes();
CREATE TRIGGER post_likes_removed AFTER DELETE ON post_likes REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_likes();

-- A profile counts what others may see: neither what is deleted nor what is private.
CREATE FUNCTION count_posts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counter_deltas (subject, what, by)
        SELECT author, 3, 1 FROM after WHERE deleted_at IS NULL AND visibility <> 'private';
    ELSE
        INSERT INTO counter_deltas (subject, what, by)
        SELECT now.author, 3, (now.deleted_at IS NULL AND now.visibility <> 'private')::int
                            - (was.deleted_at IS NULL AND was.visibility <> 'private')::int
        FROM after now JOIN before was ON was.id = now.id
        WHERE (now.deleted_at IS NULL AND now.visibility <> 'private') <> (was.deleted_at IS NULL AND was.visibility <> 'private');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER posts_added AFTER INSERT ON posts REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION count_posts();
CREATE TRIGGER posts_changed AFTER UPDATE ON posts REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION count_posts();

CREATE FUNCTION count_comments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counter_deltas (subject, what, by)
        SELECT post_id, 5, 1 FROM after UNION ALL SELECT parent, 6, 1 FROM after WHERE parent IS NOT NULL;
    ELSE
        INSERT INTO counter_deltas (subject, what, by)
        SELECT what.subject, what.kind, -1 FROM after now JOIN before was ON was.id = now.id,
            LATERAL (VALUES (now.post_id, 5), (now.parent, 6)) AS what (subject, kind)
        WHERE was.deleted_at IS NULL AND now.deleted_at IS NOT NULL AND what.subject IS NOT NULL;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER comments_added AFTER INSERT ON comments REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION count_comments();
CREATE TRIGGER comments_changed AFTER UPDATE ON comments REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION count_comments();
