//! From a like to the notification of the author.

use std::time::Duration;

use nova_actors::id::PostId;
use tokio::time::{Instant, sleep};

use super::wire::Wire;
use super::{Ask, Place, micros, spread, within};
use crate::bench::BenchError;
use crate::bench::measure::{Line, Times};
use crate::events::{Event, Logged, Topic, id};
use crate::store::events::Cursor;

/// From the moment before a like is sent until it stands in the log that its author is to hear of it. Sockets and push come after that, and
/// are another's to measure.
pub(super) async fn notified(place: &Place) -> Result<Vec<Line>, BenchError> {
    const LIKES: usize = 300;
    const LATE: Duration = Duration::from_secs(10);
    let store = place.installation.errand().store();
    // Posts nobody likes: who likes one a second time has done nothing that could be told.
    let unliked = "SELECT p.id, p.author FROM posts p
        WHERE NOT EXISTS (SELECT FROM post_likes l WHERE l.post_id = p.id) ORDER BY p.id LIMIT $1";
    let rows: Vec<(uuid::Uuid, uuid::Uuid)> = sqlx::query_as(unliked)
        .bind(LIKES as i64)
        .fetch_all(store.pool())
        .await
        .map_err(BenchError::because)?;
    let mut wire = Wire::dial(place.door(0)?).await?;
    let mut times = Vec::new();
    for (nth, (post, author)) in rows.into_iter().enumerate() {
        let Some(who) = place.town.people.iter().rev().skip(3 + nth).find(|who| who.user.as_uuid() != author)
        else {
            continue;
        };
        let part = Topic::Notification.part_of(author);
        let heads = store.event_heads(&[Topic::Notification]).await.map_err(BenchError::because)?;
        let head = heads.iter().find(|(_, of, _)| *of == part).map_or(0, |(.., head)| *head);
        let mut cursor = Cursor { topic: Topic::Notification, part, place: head, failures: 0 };
        let began = Instant::now();
        let path = format!("/v1/posts/{}/like", PostId::from(post));
        Ask::new("PUT", &path, Some(who), String::new()).send_unread(&mut wire).await?;
        loop {
            let (told, top) = store.events_read(&cursor, 100).await.map_err(BenchError::because)?;
            let is_it = |event: &Logged| match event.event() {
                Ok(Some(Event::NotificationCreated(notice))) => {
                    id(&notice.recipient_id) == author && id(&notice.sender_id) == who.user.as_uuid()
                }
                _ => false,
            };
            if told.iter().any(is_it) {
                break;
            }
            if !told.is_empty() {
                cursor.place = top;
            }
            if began.elapsed() > LATE {
                return Err(BenchError::because("an author's notification is not told after ten seconds"));
            }
            sleep(Duration::from_millis(1)).await;
        }
        times.push(micros(began.elapsed()));
    }
    let times = Times::new(times);
    let what = "like until its author's notification is in the event log";
    Ok(vec![within(what, &times, 0.99, 95.0), spread("notified", &times)])
}
