//! On which shard a room is.
//!
//! A room is where its first participant was placed for as long as anybody has a seat in it: packets pass from its publishers to its
//! subscribers on one thread. A new room is placed where the fewest participants are, since what a shard has to do grows with those it
//! sends to; among equals where the fewest rooms are. A hash of the room's id would need no memory of rooms, but puts two rooms on one of
//! two shards every second time, and has no way around a shard that has too much to do already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nova_media::sfu::RoomKey;

/// Where all rooms of a node are.
#[derive(Debug)]
pub(super) struct Placement(Mutex<Placed>);

#[derive(Debug)]
struct Placed {
    rooms: HashMap<RoomKey, Room>,
    shards: Vec<Load>,
}

#[derive(Debug)]
struct Room {
    shard: usize,
    seats: usize,
}

#[derive(Debug, Clone, Default)]
struct Load {
    seats: usize,
    rooms: usize,
}

/// A participant's place in a room, from before they are on its shard until they have left it.
#[derive(Debug)]
pub(super) struct Seat {
    placement: Arc<Placement>,
    room: RoomKey,
    shard: usize,
}

impl Placement {
    /// No room yet, and so many shards.
    pub(super) fn new(shards: usize) -> Placement {
        Placement(Mutex::new(Placed { rooms: HashMap::new(), shards: vec![Load::default(); shards] }))
    }

    /// A seat in a room. If nobody has one there it is placed, on a shard that is not `avoided` where there is any; `None` without shards.
    pub(super) fn seat(self: &Arc<Self>, room: RoomKey, is_avoided: impl Fn(usize) -> bool) -> Option<Seat> {
        let mut placed = self.lock();
        let shard = match placed.rooms.get_mut(&room) {
            Some(room) => {
                room.seats += 1;
                room.shard
            }
            None => {
                let shards = placed.shards.iter().enumerate();
                let (shard, _) = shards.min_by_key(|(at, load)| (is_avoided(*at), load.seats, load.rooms))?;
                placed.rooms.insert(room, Room { shard, seats: 1 });
                if let Some(load) = placed.shards.get_mut(shard) {
                    load.rooms += 1;
                }
                shard
            }
        };
        if let Some(load) = placed.shards.get_mut(shard) {
            load.seats += 1;
        }
        Some(Seat { placement: Arc::clone(self), room, shard })
    }

    /// Held for a few lookups, by whoever joins and by shards when somebody leaves; never for a packet.
    fn lock(&self) -> MutexGuard<'_, Placed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// In this room.
    pub(super) fn room(&self) -> RoomKey {
        self.room
    }

    /// Which is on this shard.
    pub(super) fn shard(&self) -> usize {
        self.shard
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut placed = self.placement.lock();
        let is_last = placed.rooms.get_mut(&self.room).is_some_and(|room| {
            room.seats -= 1;
            room.seats == 0
        });
        if is_last {
            placed.rooms.remove(&self.room);
        }
        if let Some(load) = placed.shards.get_mut(self.shard) {
            load.seats -= 1;
            load.rooms -= usize::from(is_last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_stays_where_it_is_and_a_new_one_goes_where_the_fewest_are() {
        let placement = Arc::new(Placement::new(3));
        let seat = |room| placement.seat(room, |_| false).unwrap();
        let first: Vec<Seat> = (0..5).map(|_| seat(1)).collect();
        assert!(first.iter().all(|seat| seat.shard() == 0 && seat.room() == 1));
        let (second, third) = (seat(2), seat(3));
        assert_eq!((second.shard(), third.shard()), (1, 2));
        let fourth = seat(4);
        assert_eq!(
            fourth.shard(),
            1,
            "one participant on each, and the first of them is as good as the other"
        );
        let crowd: Vec<Seat> = (0..9).map(|_| seat(3)).collect();
        assert_eq!(seat(5).shard(), 1, "two are fewer than five and than ten");
        drop(first);
        let fifth = seat(5);
        assert_eq!(fifth.shard(), 0, "who has left is not counted");
        assert_eq!(seat(3).shard(), 2, "whoever else comes to a room comes to its shard");
        drop((third, crowd));
        drop((second, fourth, fifth));
        let placed = placement.lock();
        assert!(
            placed.rooms.is_empty() && placed.shards.iter().all(|load| load.seats == 0 && load.rooms == 0)
        );
    }

    #[test]
    fn a_new_room_avoids_a_shard_that_has_too_much_to_do_and_an_old_one_does_not() {
        let placement = Arc::new(Placement::new(2));
        let old = placement.seat(1, |_| false).unwrap();
        assert_eq!(old.shard(), 0);
        let crowd: Vec<Seat> = (0..9).map(|_| placement.seat(2, |_| false).unwrap()).collect();
        assert_eq!(crowd[0].shard(), 1);
        let is_avoided = |at: usize| at == 0;
        assert_eq!(placement.seat(3, is_avoided).unwrap().shard(), 1);
        assert_eq!(placement.seat(1, is_avoided).unwrap().shard(), 0);
        assert_eq!(placement.seat(3, |_| true).unwrap().shard(), 0, "where all have it is as before");
        assert!(Arc::new(Placement::new(0)).seat(1, is_avoided).is_none());
    }
}
