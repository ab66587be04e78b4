-- What people tell for a day.
CREATE TABLE stories (
    id              uuid PRIMARY KEY,
    author          uuid NOT NULL,
    text            text NOT NULL,
    visibility      text NOT NULL CHECK (visibility IN ('public', 'followers', 'private')),
    mentions        uuid[] NOT NULL,
    created_at      timestamptz NOT NULL,
    -- From this moment on it is not there, for nobody; its row goes later.
    expires_at      timestamptz NOT NULL,
    CHECK (expires_at > created_at)
);
CREATE INDEX stories_author ON stories (author, id);
CREATE INDEX stories_expires_at ON stories (expires_at);

-- Who has looked at a story, once each.
CREATE TABLE story_views (
    story_id        uuid NOT NULL REFERENCES stories (id) ON DELETE CASCADE,
    viewer          uuid NOT NULL,
    viewed_at       timestamptz NOT NULL,
    PRIMARY KEY (story_id, viewer)
);
CREATE INDEX story_views_newest ON story_views (story_id, viewed_at DESC, viewer DESC);
