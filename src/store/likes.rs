//! Who likes which post, in PostgreSQL.

use nova_actors::id::{PostId, UserId};
use time::OffsetDateTime;

use super::Store;
use super::events::tell;
use super::posts::{PostError, readable, told};
use crate::events::{bytes, millis, schema};

impl Store {
    /// `user` likes a post from now on, or no longer; says whether that changed anything.
    ///
    /// # Errors
    /// [`PostError::NotFound`]: also when `user` may not see it. A like may be taken back in any case.
    pub async fn like(
        &self,
        id: PostId,
        user: UserId,
        on: bool,
        now: OffsetDateTime,
    ) -> Result<bool, PostError> {
        let mut tx = self.pool().begin().await?;
        // Likes of one post do not wait for each other: what is locked, and ordered, is one user's like of it.
        let (changed, event) = match on {
            true => {
                let author = readable(&mut tx, id, user).await?;
                let liked = sqlx::query!(
                    "INSERT INTO post_likes (post_id, user_id, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                    id.as_uuid(),
                    user.as_uuid(),
                    now
                );
                let (post_id, user_id, at_ms) = (bytes(id), bytes(user), millis(now));
                let event = schema::PostLiked { post_id, author_id: bytes(author), user_id, at_ms };
                (liked, told(id, 0, event))
            }
            false => {
                let unliked = sqlx::query!(
                    "DELETE FROM post_likes WHERE post_id = $1 AND user_id = $2",
                    id.as_uuid(),
                    user.as_uuid()
                );
                let event =
                    schema::PostUnliked { post_id: bytes(id), user_id: bytes(user), at_ms: millis(now) };
                (unliked, told(id, 0, event))
            }
        };
        let changed = changed.execute(&mut *tx).await?.rows_affected() > 0;
        if changed {
            tell(&mut tx, now, &[event]).await?;
        }
        self.commit(tx).await?;
        Ok(changed)
    }
}
