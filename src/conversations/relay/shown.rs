//! What the sockets are shown of what happens in a conversation.

use std::sync::Arc;

use nova_actors::conversation::{Entry, Seq};
use nova_actors::id::{ConversationId, UserId};
use serde_json::value::RawValue;

use crate::chat::Door;
use crate::chat::encoded::{Class, Encoded};
use crate::chat::seam::Delivery;
use crate::chat::wire::{self, Push};

/// An entry as a frame for everybody.
pub(in crate::conversations) fn encode(entry: &Entry) -> Encoded {
    let body = RawValue::from_string(entry.body.as_ref().to_owned());
    wire::push(&Push::Entry(wire_entry(entry, body.expect("a body is JSON").into())))
}

/// An entry as the socket shows it.
pub(in crate::conversations) fn wire_entry(entry: &Entry, body: Arc<RawValue>) -> wire::Entry {
    wire::Entry {
        conversation: entry.conversation,
        epoch: u64::from(entry.epoch),
        seq: entry.seq,
        kind: entry.kind.as_str().to_owned(),
        sender: Some(entry.sender),
        at: entry.at,
        client_msg_id: Some(entry.client_msg_id.as_ref().to_owned()),
        body,
    }
}

pub(super) fn delivery(entry: &Entry) -> Delivery {
    Delivery {
        topic: entry.conversation.into(),
        seq: Some(entry.seq),
        class: Class::Durable,
        slot: None,
        message: encode(entry),
        except: None,
    }
}

/// In the chat of a stream nobody waits for what is missing: whoever wants it pulls it.
pub(super) fn live_delivery(entry: &Entry) -> Delivery {
    Delivery { seq: None, class: Class::Live, ..delivery(entry) }
}

pub(super) fn show_receipt(
    door: &Door,
    of: ConversationId,
    user: UserId,
    delivered: Option<Seq>,
    read: Option<Seq>,
    hidden_from: Arc<[UserId]>,
) {
    let message = wire::push(&Push::Receipt { conversation: of, user, delivered, read });
    // The latest of one user in one conversation, of one sort, stands for those before.
    let slot =
        (user.as_uuid().as_u128() ^ of.as_uuid().as_u128().rotate_left(1)) as u64 ^ u64::from(read.is_some());
    let delivery = Delivery {
        topic: of.into(),
        seq: None,
        class: Class::Receipt,
        slot: Some(slot),
        message,
        except: (!hidden_from.is_empty()).then_some(hidden_from),
    };
    // A hint: a worker that is too busy drops it.
    let _busy = door.try_deliver(&delivery).is_err();
}

pub(super) fn show_typing(door: &Door, of: ConversationId, user: UserId, on: bool, hidden_from: &[UserId]) {
    // Nobody is told that they are typing themselves.
    let mut except: Vec<_> = hidden_from.iter().copied().chain([user]).collect();
    except.sort_unstable();
    let message = wire::push(&Push::Typing { conversation: of, user, on });
    let delivery = Delivery {
        topic: of.into(),
        seq: None,
        class: Class::Typing,
        slot: None,
        message,
        except: Some(except.into()),
    };
    let _busy = door.try_deliver(&delivery).is_err();
}
