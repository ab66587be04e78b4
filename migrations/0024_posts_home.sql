-- no-transaction
-- A feed without a head asks each of the followed for their newest posts: with who may read them in the index, it does so without their rows.
CREATE INDEX CONCURRENTLY posts_home ON posts (author, id DESC) INCLUDE (visibility) WHERE deleted_at IS NULL;
