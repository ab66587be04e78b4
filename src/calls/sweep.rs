//! What time alone ends: leases of participants who did not come back, and rooms nobody is in.

use std::sync::Weak;
use std::time::Duration;

use nova_actors::id::RoomId;

use super::{Inner, Seat};

/// How often leases and empty rooms are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn keep_sweeping(inner: Weak<Inner>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let now = inner.clock.instant();
        let (expired, forgotten): (Vec<Seat>, Vec<RoomId>) = {
            let mut rooms = inner.lock();
            let forgotten = rooms.rooms.values().filter(|room| room.is_forgotten(now)).map(|room| room.id);
            let forgotten: Vec<RoomId> = forgotten.collect();
            rooms.rooms.retain(|id, _| !forgotten.contains(id));
            inner.count(&rooms);
            let seats =
                rooms.rooms.values().flat_map(|room| room.expired(now).into_iter().map(|id| (room.id, id)));
            (seats.collect(), forgotten)
        };
        inner.look_at_shows();
        for room in forgotten {
            if let Err(error) = inner.store.drop_room(room, Some(inner.node)).await {
                // It is forgotten with those nobody has used for long.
                tracing::warn!(%room, %error, "a room that has ended is still kept");
            }
        }
        for seat in expired {
            inner.leave(seat, "expired").await;
        }
    }
}
