//! Who is to be told of what others did, in PostgreSQL.

use nova_actors::id::{EventId, NotificationId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::{Told, tell_as};
use super::{Store, StoreError};
use crate::events::notices::Notice;
use crate::events::{bytes, derived, millis, schema};

impl Store {
    /// Tells `notification-events` of those that may be: not between people who have a block, not of somebody who is muted, and not of
    /// a post the recipient may not read (any more).
    pub async fn tell_notices(&self, tx: &mut PgConnection, all: &[Notice]) -> Result<(), StoreError> {
        if all.is_empty() {
            return Ok(());
        }
        let may = sqlx::query_scalar!(
            r#"SELECT (NOT is_blocked(i.recipient, i.sender)
                  AND NOT EXISTS (SELECT FROM mutes m WHERE m.muter = i.recipient AND m.muted = i.sender)
                  AND EXISTS (SELECT FROM users u WHERE u.id = i.recipient AND u.deleted_at IS NULL)
                  AND (i.post IS NULL OR EXISTS (
                      SELECT FROM posts p WHERE p.id = i.post AND p.deleted_at IS NULL AND may_read(i.recipient, p.author, p.visibility)
                  ))) AS "may!"
               FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) WITH ORDINALITY AS i (recipient, sender, post, nth)
               ORDER BY i.nth"#,
            &all.iter().map(|notice| notice.recipient.as_uuid()).collect::<Vec<_>>(),
            &all.iter().map(|notice| notice.sender.as_uuid()).collect::<Vec<_>>(),
            &all.iter().map(|notice| notice.post.map(|post| post.as_uuid())).collect::<Vec<_>>() as &[Option<Uuid>]
        )
        .fetch_all(&mut *tx)
        .await?;
        let now = OffsetDateTime::now_utc();
        let told = |notice: &Notice| {
            let known = derived(notice.event, notice.recipient.as_uuid());
            let event = schema::NotificationCreated {
                notification_id: bytes(NotificationId::from_uuid(known)),
                recipient_id: bytes(notice.recipient),
                sender_id: if notice.sender.as_uuid().is_nil() { Vec::new() } else { bytes(notice.sender) },
                kind: notice.kind.to_owned(),
                subject: notice.subject.clone(),
                at_ms: millis(now),
            };
            let told = Told { key: notice.recipient.as_uuid(), version: 0, event: event.into() };
            (EventId::from_uuid(known), told)
        };
        let told: Vec<_> =
            all.iter().zip(may).filter(|(_, may)| *may).map(|(notice, _)| told(notice)).collect();
        Ok(tell_as(tx, now, &told).await?)
    }
}
