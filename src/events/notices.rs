//! Who is to be told of what others did: a group that reads what happens and tells `notification-events`.
//!
//! A notification is told in the transaction that moves the cursor, so once; a replay tells it again under the same id, which is made
//! of the event and of whom it is for. Lists, grouping and delivery are what consumers of the topic make of it.

use async_trait::async_trait;
use nova_actors::id::{CommentId, PostId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Consumer, Event, HandleError, Logged, Topic, id};
use crate::store::Store;

/// Somebody is to hear of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The event it comes from.
    pub event: Uuid,
    /// Who is to hear of it.
    pub recipient: UserId,
    /// Who did it; the nil id when it was the engine.
    pub sender: UserId,
    /// `like`, `comment`, `mention`, `follow`, `welcome`.
    pub kind: &'static str,
    /// What it is about, as a TypeID.
    pub subject: String,
    /// The post the recipient must be able to read for that.
    pub post: Option<PostId>,
}

/// Tells who is to be told.
pub struct Notices(pub Store);

#[async_trait]
impl Consumer for Notices {
    fn group(&self) -> &'static str {
        "notices"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Content, Topic::User]
    }

    async fn take(&self, tx: &mut PgConnection, events: &[Logged]) -> Result<(), HandleError> {
        let mut all = Vec::new();
        for event in events {
            match event.event() {
                Ok(Some(what)) => all.extend(notices(event.id.as_uuid(), &what)),
                Ok(None) => {}
                Err(error) => return Err(HandleError::because(error)),
            }
        }
        Ok(self.0.tell_notices(tx, &all).await?)
    }
}

/// Who is to hear of an event: everybody once, and nobody of what they did themself.
fn notices(event: Uuid, what: &Event) -> Vec<Notice> {
    let mut all: Vec<Notice> = Vec::new();
    let mut tell = |recipient: &[u8], sender: &[u8], kind, subject: &str, post: Option<PostId>| {
        let (recipient, sender) = (UserId::from_uuid(id(recipient)), UserId::from_uuid(id(sender)));
        if recipient != sender && all.iter().all(|notice| notice.recipient != recipient) {
            all.push(Notice { event, recipient, sender, kind, subject: subject.to_owned(), post });
        }
    };
    match what {
        Event::PostCreated(post) => {
            let about = PostId::from_uuid(id(&post.post_id));
            for mentioned in &post.mentions {
                tell(mentioned, &post.author_id, "mention", &about.to_string(), Some(about));
            }
        }
        Event::PostLiked(like) => {
            let about = PostId::from_uuid(id(&like.post_id));
            tell(&like.author_id, &like.user_id, "like", &about.to_string(), Some(about));
        }
        Event::CommentCreated(comment) => {
            let about = CommentId::from_uuid(id(&comment.comment_id)).to_string();
            let post = Some(PostId::from_uuid(id(&comment.post_id)));
            for mentioned in &comment.mentions {
                tell(mentioned, &comment.author_id, "mention", &about, post);
            }
            tell(&comment.post_author_id, &comment.author_id, "comment", &about, post);
        }
        Event::UserFollowed(follow) => {
            let who = UserId::from_uuid(id(&follow.follower_id)).to_string();
            tell(&follow.followee_id, &follow.follower_id, "follow", &who, None);
        }
        // Nobody's doing: from the engine itself.
        Event::UserRegistered(user) => {
            let who = UserId::from_uuid(id(&user.user_id)).to_string();
            tell(&user.user_id, &[], "welcome", &who, None);
        }
        _ => {}
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{bytes, schema};

    #[test]
    fn everybody_hears_once_and_nobody_of_themself() {
        let (ann, bo, cy) = (UserId::generate(), UserId::generate(), UserId::generate());
        let comment = |mentions: &[UserId], by: UserId| {
            Event::from(schema::CommentCreated {
                comment_id: bytes(CommentId::generate()),
                post_id: bytes(PostId::generate()),
                post_author_id: bytes(ann),
                author_id: bytes(by),
                mentions: mentions.iter().copied().map(bytes).collect(),
                ..Default::default()
            })
        };
        let told = |event: &Event| {
            let all = notices(Uuid::now_v7(), event);
            all.iter().map(|notice| (notice.recipient, notice.kind)).collect::<Vec<_>>()
        };
        assert_eq!(told(&comment(&[cy, ann, cy, bo], bo)), [(cy, "mention"), (ann, "mention")]);
        assert_eq!(told(&comment(&[], bo)), [(ann, "comment")]);
        assert_eq!(told(&comment(&[ann], ann)), []);
        let registered = schema::UserRegistered { user_id: bytes(ann), ..Default::default() };
        assert_eq!(told(&registered.into()), [(ann, "welcome")]);
    }
}
