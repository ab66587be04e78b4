//! What goes on beside requests: hearing the other nodes, speaking to them, writing down, counting, looking at blocks.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use nova_actors::port::{BusEvent, MessageLog};
use nova_actors::presence::State;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::desk::{Count, Desk, Watcher};
use super::{Inner, topic};
use crate::chat::encoded::Class;
use crate::chat::wire::{self, Counted, Push};
use crate::conversations::relay::Blocked;

/// How often it is looked at what time has brought.
const TICK: Duration = Duration::from_millis(250);
/// How often conversations that somebody watches are counted.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// How long the list of members that are counted is believed.
const MEMBERS_FOR: Duration = Duration::from_secs(30);
/// How long after a failed subscription it is tried again.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);

/// Hears the other nodes.
pub(super) async fn hear(inner: Weak<Inner>) {
    loop {
        let Some(bus) = inner.upgrade().map(|inner| inner.bus.clone()) else { return };
        match bus.subscribe(&topic()).await {
            Ok(mut subscription) => {
                let mut event = Some(BusEvent::Gap);
                while let Some(heard) = event {
                    let Some(inner) = inner.upgrade() else { return };
                    match heard {
                        BusEvent::Message(payload) => inner.heard(&payload),
                        BusEvent::Gap => {
                            let mut desk = inner.desk();
                            desk.presence.missed();
                            desk.presence.not_said();
                        }
                    }
                    inner.wake.notify_one();
                    drop(inner);
                    event = subscription.next().await;
                }
            }
            Err(error) => tracing::warn!(%error, "presence of other nodes is not heard"),
        }
        tokio::time::sleep(SUBSCRIBE_AGAIN).await;
    }
}

/// Says what is to be said, and sees to what time brings.
pub(super) async fn speak(inner: Weak<Inner>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        {
            let Some(inner) = inner.upgrade() else { return };
            tokio::select! {
                _ = ticks.tick() => inner.tick(),
                () = inner.wake.notified() => {}
            }
            inner.say().await;
        }
    }
}

/// Writes down when people were seen.
pub(super) async fn write(inner: Weak<Inner>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        inner.write().await;
    }
}

/// Counts the conversations somebody watches.
pub(super) async fn count(inner: Weak<Inner>) {
    let mut ticks = interval(COUNT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let now = Instant::now();
        let old: Vec<_> = {
            let desk = inner.desk();
            let is_old = |count: &Count| count.read_at.is_none_or(|at| at + MEMBERS_FOR <= now);
            desk.counted.iter().filter(|(_, count)| is_old(count)).map(|(of, _)| *of).collect()
        };
        for of in old {
            match inner.journal.members(of).await {
                Ok(members) => {
                    if let Some(count) = inner.desk().counted.get_mut(&of) {
                        count.members = members.iter().map(|member| member.user).collect();
                        count.read_at = Some(now);
                    }
                }
                Err(error) => tracing::debug!(%error, "members were not counted"),
            }
        }
        let mut desk = inner.desk();
        let Desk { presence, counted, watchers, .. } = &mut *desk;
        let mut changed = HashMap::new();
        for (of, count) in counted.iter_mut().filter(|(_, count)| count.read_at.is_some()) {
            let here = count.members.iter().filter(|user| presence.of(**user) == State::Online);
            let online = here.count() as u64;
            if std::mem::replace(&mut count.online, online) != online {
                let push = Push::Online(Counted { conversation: *of, online });
                changed.insert(*of, wire::push(&push));
            }
        }
        if changed.is_empty() {
            continue;
        }
        for watcher in watchers.values() {
            for of in &watcher.conversations {
                if let Some(message) = changed.get(of) {
                    let slot = of.as_uuid().as_u128() as u64;
                    // The next count replaces it.
                    let _busy =
                        watcher.device.try_push(Class::Presence, Some(slot), message.clone()).is_err();
                }
            }
        }
    }
}

/// Looks again at what is shown when a block comes or goes.
pub(super) async fn look_at_blocks(inner: Weak<Inner>, mut blocked: broadcast::Receiver<Blocked>) {
    loop {
        let pairs = match blocked.recv().await {
            Ok(Some(pair)) => vec![pair],
            // Too many at once, or some were not heard: all who watch are looked at.
            Ok(None) | Err(RecvError::Lagged(_)) => {
                let Some(inner) = inner.upgrade() else { return };
                let desk = inner.desk();
                let of = |watcher: &Watcher| {
                    let user = watcher.device.user();
                    watcher.users.keys().map(move |watched| (user, *watched)).collect::<Vec<_>>()
                };
                desk.watchers.values().flat_map(of).collect()
            }
            Err(RecvError::Closed) => return,
        };
        let Some(inner) = inner.upgrade() else { return };
        for (one, other) in pairs {
            inner.look_at_block(one, other).await;
        }
    }
}
