//! Who is connected to this node: every user's devices, one connection each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nova_actors::id::{DeviceId, UserId};

use super::limits::Meter;
use super::seam::DeviceHandle;

/// The connections of this node, by user.
#[derive(Debug, Default)]
pub(super) struct Roster(Mutex<HashMap<UserId, Present>>);

#[derive(Debug, Default)]
struct Present {
    devices: Vec<DeviceHandle>,
    /// Counts the requests of all devices.
    meter: Arc<Meter>,
}

/// A device that was let in.
#[derive(Debug)]
pub(super) struct Joined {
    /// The connection this device had; it is to be told 4503.
    pub(super) replaced: Option<DeviceHandle>,
    /// Counts the requests of all devices of the user.
    pub(super) meter: Arc<Meter>,
}

/// The user has as many connections as one may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Roster {
    /// A device connects; a connection it had is replaced.
    pub(super) fn join(&self, device: DeviceHandle, per_user_max: usize) -> Result<Joined, TooMany> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let present = users.entry(device.user()).or_default();
        let meter = present.meter.clone();
        let same = present.devices.iter_mut().find(|known| known.device() == device.device());
        if let Some(known) = same {
            return Ok(Joined { replaced: Some(std::mem::replace(known, device)), meter });
        }
        if present.devices.len() >= per_user_max {
            return Err(TooMany);
        }
        present.devices.push(device);
        Ok(Joined { replaced: None, meter })
    }

    /// A connection ended. One that was replaced meanwhile takes nothing with it.
    pub(super) fn leave(&self, device: &DeviceHandle) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = users.get_mut(&device.user()) {
            present.devices.retain(|known| known.session() != device.session());
            if present.devices.is_empty() {
                users.remove(&device.user());
            }
        }
    }

    /// The connected devices of a user.
    pub(super) fn of(&self, user: UserId) -> Vec<DeviceHandle> {
        let users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.get(&user).map(|present| present.devices.clone()).unwrap_or_default()
    }

    /// All connected devices.
    pub(super) fn all(&self) -> Vec<DeviceHandle> {
        let users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.values().flat_map(|present| present.devices.iter().cloned()).collect()
    }

    /// One device of a user, if it is connected.
    pub(super) fn device(&self, user: UserId, device: DeviceId) -> Option<DeviceHandle> {
        let users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.get(&user)?.devices.iter().find(|known| known.device() == device).cloned()
    }
}

#[cfg(test)]
mod tests {
    use nova_actors::id::SessionId;
    use time::OffsetDateTime;
    use tokio::sync::mpsc;

    use super::super::hub::SocketKey;
    use super::super::seam::Believed;
    use super::*;

    fn connection(user: UserId, device: DeviceId) -> DeviceHandle {
        let believed = Believed { user, device, expires_at: OffsetDateTime::UNIX_EPOCH };
        DeviceHandle::new(&believed, SessionId::generate(), SocketKey::default(), mpsc::channel(1).0)
    }

    #[test]
    fn an_old_socket_that_closes_late_leaves_the_user_online() {
        let (roster, ann, phone) = (Roster::default(), UserId::generate(), DeviceId::generate());
        let (old, new) = (connection(ann, phone), connection(ann, phone));
        assert!(roster.join(old.clone(), 1).unwrap().replaced.is_none());
        let replaced = roster.join(new.clone(), 1).unwrap().replaced.expect("the old one");
        assert_eq!(replaced.session(), old.session());
        roster.leave(&old);
        assert_eq!(roster.device(ann, phone).map(|known| known.session()), Some(new.session()));
        roster.leave(&new);
        assert!(roster.of(ann).is_empty());
    }

    #[test]
    fn a_user_has_so_many_devices_and_no_more() {
        let (roster, ann) = (Roster::default(), UserId::generate());
        let devices: Vec<_> = (0..3).map(|_| connection(ann, DeviceId::generate())).collect();
        assert!(roster.join(devices[0].clone(), 2).is_ok());
        assert!(roster.join(devices[1].clone(), 2).is_ok());
        assert_eq!(roster.join(devices[2].clone(), 2).map(drop), Err(TooMany));
        roster.leave(&devices[0]);
        assert!(roster.join(devices[2].clone(), 2).is_ok());
        assert_eq!(roster.of(ann).len(), 2);
    }
}
