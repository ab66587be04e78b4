//! Feeds straight from PostgreSQL: the truth every cached head is compared with.

use nova_actors::id::{PostId, UserId};

use super::{Store, StoreError};

impl Store {
    /// The newest posts of those `reader` follows and has not muted, and the reader's own, below `after`.
    ///
    /// Each of the followed is asked for as many posts as the page has, by the index of their posts: a page is exact, and costs one short
    /// index read for each of them, however much they post.
    pub async fn home_ids(
        &self,
        reader: UserId,
        after: Option<PostId>,
        rows: i64,
    ) -> Result<Vec<PostId>, StoreError> {
        let ids = sqlx::query_scalar!(
            r#"WITH authors AS (
                   SELECT f.followee AS id FROM follows f JOIN users u ON u.id = f.followee
                   WHERE f.follower = $1 AND u.deleted_at IS NULL AND u.suspended_at IS NULL
                     AND NOT EXISTS (SELECT FROM mutes m WHERE m.muter = $1 AND m.muted = f.followee)
                   UNION ALL SELECT $1
               )
               SELECT newest.id AS "id!" FROM authors CROSS JOIN LATERAL (
                   SELECT p.id FROM posts p
                   WHERE p.author = authors.id AND p.deleted_at IS NULL AND (p.visibility <> 'private' OR p.author = $1)
                     AND ($2::uuid IS NULL OR p.id < $2)
                   ORDER BY p.id DESC LIMIT $3
               ) newest
               ORDER BY newest.id DESC LIMIT $3"#,
            reader.as_uuid(),
            after.map(|id| id.as_uuid()),
            rows
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(PostId::from).collect())
    }
}
