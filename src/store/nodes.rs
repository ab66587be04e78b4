//! The nodes of this installation in PostgreSQL, and which of them has a stream.

use nova_actors::id::{NodeId, StreamId, UserId};
use nova_actors::port::SILENCE_MAX;
use serde_json::json;
use time::OffsetDateTime;

use super::webhooks::{moment, tell};
use super::{Store, StoreError};
use crate::nodes;

/// Where a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlace {
    /// The node its publisher is, or was.
    pub node: NodeId,
    /// Where that node is reached; none when it is gone.
    pub url: Option<String>,
}

impl Store {
    /// A node says that it is there.
    pub async fn node_is_there(
        &self,
        node: NodeId,
        url: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "INSERT INTO nodes (id, url, heard_at) VALUES ($1, $2, $3)
             ON CONFLICT (id) DO UPDATE SET url = $2, heard_at = $3",
            node.as_uuid(),
            url,
            now
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// How many nodes have said since then that they are there.
    pub async fn nodes_heard_since(&self, since: OffsetDateTime) -> Result<i64, StoreError> {
        let heard = sqlx::query_scalar("SELECT count(*) FROM nodes WHERE heard_at > $1");
        Ok(heard.bind(since).fetch_one(self.pool()).await?)
    }

    /// A node says that it is gone; those that died without a word long ago are forgotten with it.
    pub async fn node_is_gone(&self, node: NodeId) -> Result<(), StoreError> {
        sqlx::query!(
            "DELETE FROM nodes WHERE id = $1 OR heard_at < now() - interval '1 day'",
            node.as_uuid()
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Where a stream is that is on the air. None of one that is not.
    pub async fn stream_place(
        &self,
        stream: StreamId,
        now: OffsetDateTime,
    ) -> Result<Option<StreamPlace>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT s.node_id AS "node_id!", n.url AS "url?" FROM streams s
               LEFT JOIN nodes n ON n.id = s.node_id AND n.heard_at > $3
               WHERE s.id = $1 AND s.state = 'live' AND s.heard_at > $2"#,
            stream.as_uuid(),
            now - SILENCE_MAX,
            now - nodes::SILENCE_MAX
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| StreamPlace { node: row.node_id.into(), url: row.url }))
    }

    /// Ends streams whose node has been silent for too long, and says how many.
    pub async fn end_silent_streams(&self, now: OffsetDateTime) -> Result<u64, StoreError> {
        let mut tx = self.pool().begin().await?;
        let ended = sqlx::query!(
            "UPDATE streams SET state = 'ended', ended_at = heard_at, viewers = 0
             WHERE id IN (SELECT id FROM streams WHERE state = 'live' AND heard_at < $1 LIMIT 100 FOR UPDATE SKIP LOCKED)
             RETURNING id, owner_id, title, started_at, ended_at, viewers_peak, watched_s",
            now - SILENCE_MAX
        )
        .fetch_all(&mut *tx)
        .await?;
        for row in &ended {
            let data = json!({
                "stream": StreamId::from(row.id),
                "owner": UserId::from(row.owner_id),
                "title": row.title,
                "started_at": row.started_at.map(moment),
                "ended_at": row.ended_at.map(moment),
                "viewers_peak": row.viewers_peak,
                "watched_s": row.watched_s,
            });
            tell(&mut tx, "stream.ended", data, now).await?;
        }
        tx.commit().await?;
        Ok(ended.len() as u64)
    }
}
