//! Heads hear what happens: each node follows the log from where it was when the node started.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nova_actors::id::{NodeId, UserId};
use tokio::time::{sleep, timeout};

use super::Feeds;
use super::heads::{Mark, What};
use crate::events::{Event, Logged, Topic, derived, id, schema};
use crate::store::StoreError;
use crate::store::events::Cursor;
use crate::store::feeds::FeedUpdate;

/// How long it waits to be told of new events; those of other nodes are found then.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Events read at once.
const BATCH: i64 = 1_000;
/// Further behind than this, heads are made anew rather than brought up to date.
const BEHIND_MAX: i64 = 20_000;
/// How long it waits for a database that is away.
const AWAY: Duration = Duration::from_millis(500);

/// How long an event may wait for its place.
const STUCK: time::Duration = time::Duration::seconds(3);

type Places = HashMap<(i16, i16), i64>;

/// Runs for as long as the node does.
pub async fn follow(feeds: Arc<Feeds>, node: NodeId) {
    let mut places: Option<Places> = None;
    loop {
        let logged = feeds.store.woken().logged.notified();
        tokio::pin!(logged);
        logged.as_mut().enable();
        match read(&feeds, node, &mut places).await {
            Ok(()) => {
                let _woken = timeout(LOOK_EVERY, logged).await;
            }
            Err(error) => {
                tracing::debug!(%error, "heads hear of posts later");
                sleep(AWAY).await;
            }
        }
    }
}

/// Reads the log to its end.
async fn read(feeds: &Feeds, node: NodeId, places: &mut Option<Places>) -> Result<(), StoreError> {
    let at = feeds.clock.now();
    // What waits for its place for long says that nobody gives places: then heads may lack it.
    let is_moving = !feeds.store.is_outbox_stuck(at - STUCK).await?;
    let tops = feeds.store.event_heads(&[Topic::Content, Topic::User]).await?;
    // Heads hear all that comes from now on, and what came shortly before if they were there already.
    let known = places.get_or_insert_with(|| {
        feeds.heads.clear();
        let first = |(topic, part, top): &(Topic, i16, i64)| {
            let place = (top - feeds.heads.lookback()).max(0);
            feeds.heads.starts((topic.number(), *part), place);
            ((topic.number(), *part), place)
        };
        tops.iter().map(first).collect()
    });
    for (topic, part, top) in tops {
        let place = known.entry((topic.number(), part)).or_insert(0);
        // Less than before is another log: the database was restored from a backup.
        if top - *place > BEHIND_MAX || top < *place {
            feeds.heads.starts((topic.number(), part), top);
            *place = top;
        }
        while *place < top {
            let cursor = Cursor { topic, part, place: *place, failures: 0 };
            let (events, last) = feeds.store.events_read(&cursor, BATCH).await?;
            let updates: Vec<_> = events.iter().filter_map(|event| hear(feeds, node, event)).collect();
            // All of it is older than what is kept.
            if events.is_empty() && last > *place {
                feeds.heads.starts((topic.number(), part), last);
            }
            *place = last;
            // What heads hold is theirs to know; that it could not be told stops nobody's feed.
            if let Err(error) = feeds.store.tell_feed_updates(&updates, at).await {
                tracing::debug!(%error, "what was put on feeds is not told");
            }
        }
    }
    if is_moving {
        feeds.heads.caught_up(crate::events::millis(at));
        feeds.heard(at);
    }
    Ok(())
}

/// What an event means for heads; what it was put on, if it was.
fn hear(feeds: &Feeds, node: NodeId, event: &Logged) -> Option<FeedUpdate> {
    let what = meaning(event);
    let mark =
        Mark { part: (event.topic.number(), event.part), place: event.place, event: event.id.as_uuid() };
    feeds.heard_of(mark, what);
    let Some(What::Posted { author, post, is_private }) = what else { return None };
    let readers = feeds.heads.holding(author, post, is_private);
    let told_as = derived(event.id.as_uuid(), node.as_uuid());
    (readers > 0).then_some(FeedUpdate { told_as, post, author, version: event.version, readers })
}

fn meaning(event: &Logged) -> Option<What> {
    let private = i32::from(schema::Visibility::Private);
    let posted = |author: &[u8], post: &[u8], visibility: i32| {
        let is_private = visibility == private;
        Some(What::Posted { author: id(author).into(), post: id(post).into(), is_private })
    };
    let forget = |reader: &[u8]| Some(What::Forget(UserId::from_uuid(id(reader))));
    match event.event() {
        Ok(Some(Event::PostCreated(post))) => posted(&post.author_id, &post.post_id, post.visibility),
        // It may have been private before.
        Ok(Some(Event::PostUpdated(post))) => posted(&post.author_id, &post.post_id, post.visibility),
        Ok(Some(Event::UserFollowed(follow))) => forget(&follow.follower_id),
        Ok(Some(Event::UserUnfollowed(follow))) => forget(&follow.follower_id),
        Ok(Some(Event::UserMuted(mute))) => forget(&mute.muter_id),
        // What is deleted or blocked is left out when it would be shown.
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, kind = event.kind, "an event that cannot be read");
            None
        }
    }
}
