//! What a device missed: the log is read from its cursor to the end, page by page as the device takes them, then it is cut over.

use std::collections::HashMap;

use nova_actors::conversation::{Entry, Seq};
use nova_actors::id::ConversationId;
use nova_actors::port::{LogError, MessageLog};

use super::Talk;
use crate::chat::encoded::{Class, Encoded};
use crate::chat::goodbye::Goodbye;
use crate::chat::order::Cutover;
use crate::chat::seam::{DeviceHandle, Gone, Topic};
use crate::chat::wire::{self, Push};
use crate::conversations::relay::encode;
use crate::store::cursors::Resume;

/// Entries of one page of a replay at most: some tens of kilobytes where they are as short as most are.
const PAGE_LEN: u32 = 200;
/// Bytes of a replay that are given to a device at once: with what may wait for it before, less than half of its outbox.
const PAGE_BYTES: usize = 256 << 10;
/// What waits in one conversation beyond this is not pushed: the client pulls what it wants of it.
pub(super) const REPLAY_LEN_MAX: u64 = 1_000;
/// Conversations whose ends are asked for in one statement.
const TOPS_LEN: usize = 1_000;

impl Talk {
    /// Follows what the device does not follow yet, and brings it up to date. Says how many entries were replayed.
    pub(super) async fn follow(&self, device: &DeviceHandle, resumes: Vec<Resume>) -> Result<u64, Gone> {
        let inner = &self.0;
        let mut behind = Vec::new();
        for resume in resumes {
            if !inner.following.add(device.session(), resume.conversation) {
                continue;
            }
            inner.relay.follow(resume.conversation, resume.top).await;
            let mut next = resume.cursor + 1;
            if resume.top.saturating_sub(resume.cursor) > REPLAY_LEN_MAX {
                let gap = Push::Gap {
                    conversation: resume.conversation,
                    epoch: u64::from(resume.epoch),
                    from: next,
                    to: resume.top,
                };
                device.push(Class::Durable, None, wire::push(&gap)).await?;
                next = resume.top + 1;
            }
            device.subscribe(resume.conversation.into(), next).await?;
            behind.push((resume.conversation, next));
        }
        let mut replayed = 0;
        for some in behind.chunks(TOPS_LEN) {
            let ids: Vec<_> = some.iter().map(|(conversation, _)| *conversation).collect();
            // Read after the subscriptions: what comes later is offered to them.
            let tops = match inner.conversations.journal.tops(&ids).await {
                Ok(tops) => tops.into_iter().collect::<HashMap<_, _>>(),
                Err(error) => return lost(device, &error).await,
            };
            for (conversation, next) in some {
                let top = tops.get(conversation).map_or(0, |top| top.seq);
                if *next > top {
                    match device.cutover((*conversation).into(), top).await? {
                        Cutover::Live { .. } | Cutover::NotReplaying => continue,
                        Cutover::Behind { .. } => {}
                    }
                }
                replayed += self.replay(device, *conversation, *next).await?;
            }
        }
        Ok(replayed)
    }

    /// Sends the log from `next` on, as the device takes it, and cuts over at its end.
    pub(super) async fn replay(
        &self,
        device: &DeviceHandle,
        of: ConversationId,
        mut next: Seq,
    ) -> Result<u64, Gone> {
        let topic = Topic::from(of);
        let (mut replayed, mut len) = (0, PAGE_LEN);
        loop {
            let range = match self.0.conversations.journal.range(of, next.saturating_sub(1), len).await {
                Ok(Some(range)) => range,
                // Conversations are not taken away.
                Ok(None) => return Ok(replayed),
                Err(error) => return lost(device, &error).await,
            };
            if next <= range.removed {
                // Retention took what the device had not seen; it goes on behind that.
                next = range.removed + 1;
                device.subscribe(topic, next).await?;
                continue;
            }
            let whole = range.entries.len() < len as usize;
            let mut page: Vec<_> =
                range.entries.into_iter().map(|entry| (entry.seq, self.shown(entry, device))).collect();
            len = len_of_next(&page);
            while !page.is_empty() {
                let rest = page.split_off(fitting(&page));
                next = page.last().map_or(next, |(last, _)| last + 1);
                replayed += page.len() as u64;
                device.room().await?;
                device.replay(topic, std::mem::replace(&mut page, rest)).await?;
            }
            if whole {
                match device.cutover(topic, next.saturating_sub(1)).await? {
                    Cutover::Live { .. } | Cutover::NotReplaying => return Ok(replayed),
                    Cutover::Behind { next: from, .. } => next = from,
                }
            }
        }
    }

    fn shown(&self, mut entry: Entry, device: &DeviceHandle) -> Encoded {
        crate::conversations::show(&mut entry, device.user(), self.0.clock.now());
        encode(&entry)
    }
}

/// How many entries at the front of a page are given to a device at once: as many as `PAGE_BYTES` hold, one at least.
fn fitting(page: &[(Seq, Encoded)]) -> usize {
    let mut bytes = 0;
    let fit = page.iter().take_while(|(_, message)| {
        bytes += message.payload().len();
        bytes <= PAGE_BYTES
    });
    fit.count().max(1).min(page.len())
}

/// How many entries to read after a page: where they are large, no more than are given at once.
fn len_of_next(page: &[(Seq, Encoded)]) -> u32 {
    let bytes: usize = page.iter().map(|(_, message)| message.payload().len()).sum();
    let fit = (PAGE_BYTES * page.len()).checked_div(bytes);
    fit.and_then(|fit| u32::try_from(fit).ok()).unwrap_or(PAGE_LEN).clamp(1, PAGE_LEN)
}

/// What the device missed cannot be told now: it is sent away to come back for it.
async fn lost<T>(device: &DeviceHandle, error: &LogError) -> Result<T, Gone> {
    tracing::warn!(%error, "a replay was broken off");
    device.goodbye(Goodbye::InsufficientState).await?;
    Err(Gone)
}
