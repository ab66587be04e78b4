//! How calls hear the socket: what is asked of them, and that a device has come or gone.

use futures_util::future::LocalBoxFuture;
use nova_actors::id::SessionId;

use super::{Calls, Inner};
use crate::chat::goodbye::Goodbye;
use crate::chat::seam::{Deciders, DeviceHandle, Hearing, Opening, Topic, Welcome};
use crate::chat::wire::FromDevice;

/// Deciders that hear of calls too; everything else is for the others.
pub struct WithCalls<D> {
    /// Who hears the rest.
    pub others: D,
    /// Who hears `room.*` and `call.*`.
    pub calls: Calls,
}

impl<D: Deciders> Deciders for WithCalls<D> {
    fn open(&self, opening: Opening) -> LocalBoxFuture<'static, Result<Welcome, Goodbye>> {
        let (calls, device) = (self.calls.clone(), opening.device.clone());
        let opened = self.others.open(opening);
        Box::pin(async move {
            let Welcome { queue, gaps, then } = opened.await?;
            let then = async move {
                if let Some(then) = then {
                    then.await;
                }
                calls.ring_for(&device).await;
            };
            Ok(Welcome { queue, gaps, then: Some(Box::pin(then)) })
        })
    }

    fn hear(&self, device: &DeviceHandle, request: FromDevice) -> Hearing {
        match request {
            FromDevice::Room(request) => {
                let (calls, device) = (self.calls.clone(), device.clone());
                Hearing::Later(Box::pin(async move { calls.signal(&device, request).await }))
            }
            request => self.others.hear(device, request),
        }
    }

    fn hole(&self, device: &DeviceHandle, topic: Topic, next: u64) {
        self.others.hole(device, topic, next);
    }

    fn closed(&self, device: &DeviceHandle) {
        self.calls.0.gone(device);
        self.others.closed(device);
    }
}

impl Inner {
    /// Somebody waits no longer to be let in; says whether they did.
    pub(super) fn stop_waiting(&self, session: SessionId) -> bool {
        let mut rooms = self.lock();
        let Some(room) = rooms.waiting.remove(&session) else { return false };
        if let Some(room) = rooms.rooms.get_mut(&room)
            && room.give_up_waiting(session).is_some()
        {
            self.tell_hosts(room);
        }
        true
    }

    /// The socket of a device has closed: its lease begins.
    fn gone(&self, device: &DeviceHandle) {
        self.stop_waiting(device.session());
        let mut rooms = self.lock();
        rooms.coming.remove(&device.session());
        if let Some((id, participant)) = rooms.by_session.remove(&device.session())
            && let Some(room) = rooms.rooms.get_mut(&id)
        {
            room.reach(participant, None, self.clock.instant());
        }
    }
}
