//! What happens at the shard, told to whom it concerns.

use std::sync::Weak;

use nova_actors::id::RoomId;
use nova_actors::room::ParticipantId;
use nova_media::data::Ending;
use nova_media::peer::Failure;
use nova_media::sfu::{Event, MemberId, Trouble};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Inner, event};

pub(super) async fn hear_media(inner: Weak<Inner>, mut events: mpsc::Receiver<Event>) {
    while let Some(heard) = events.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        inner.hear(heard).await;
    }
}

impl Inner {
    async fn hear(&self, heard: Event) {
        match heard {
            Event::Connected(member) => {
                self.metrics.rtc_connected.inc();
                let mut rooms = self.lock();
                let seat = rooms.by_member.get(&member).copied();
                let asked = seat.and_then(|seat| rooms.seats.get_mut(&seat)?.asked.take());
                if let Some(asked) = asked {
                    let waited = self.clock.instant().saturating_duration_since(asked);
                    self.metrics.rtc_join_duration.observe(waited.as_secs_f64());
                }
            }
            Event::Failed(member, failure) => {
                let reason = match failure {
                    Failure::Ice => "no_path",
                    Failure::Dtls => "no_keys",
                    Failure::Silent => "silent",
                    Failure::Fault => "fault",
                    Failure::Restarted => "moved",
                };
                self.metrics.rtc_failed.with_label_values(&[reason]).inc();
                let seat = self.lock().by_member.get(&member).copied();
                match seat {
                    // Everybody is on their way back, and no call is over with who goes first.
                    Some(seat) if failure == Failure::Restarted => drop(self.take_out(seat, reason).await),
                    Some(seat) => self.leave(seat, reason).await,
                    None => {}
                }
            }
            Event::Closed(member) => {
                // Who goes on over the same socket comes back with a new offer; who does not is away.
                let seat = self.lock().by_member.get(&member).copied();
                if let Some(seat) = seat {
                    self.leave(seat, "left").await;
                }
            }
            Event::Slots(member, slots) => {
                {
                    let mut rooms = self.lock();
                    let seat = rooms.by_member.get(&member).copied();
                    if let Some(held) = seat.and_then(|seat| rooms.seats.get_mut(&seat)) {
                        held.slots.extend(slots.iter().cloned());
                    }
                }
                let slots: Vec<Value> =
                    slots.into_iter().map(|(mid, track)| json!({ "mid": mid, "track": track })).collect();
                self.tell_member(member, "slots", json!({ "slots": slots }));
            }
            Event::Paused(member, track, paused) => {
                self.tell_member(member, "paused", json!({ "track": track, "paused": paused }));
            }
            Event::Data(member, trouble) => {
                let (reason, ended) = match trouble {
                    Trouble::OnlyListens => ("role_too_low", false),
                    Trouble::Ended(ending) => (ending_name(ending), true),
                };
                if ended {
                    self.metrics.rtc_data_ended.with_label_values(&[reason]).inc();
                }
                self.tell_member(member, "data", json!({ "reason": reason, "ended": ended }));
            }
            Event::Wanted(member, track, highest) => {
                self.tell_member(member, "layers", json!({ "track": track, "highest": highest }));
            }
            Event::Speakers(key, members) => {
                let mut rooms = self.lock();
                let id = RoomId::from_uuid(uuid::Uuid::from_u128(key));
                let speakers: Vec<ParticipantId> = members
                    .iter()
                    .filter_map(|member| rooms.by_member.get(member))
                    .map(|seat| seat.1)
                    .collect();
                rooms.hear_speakers(id, &speakers);
                let Some(room) = rooms.rooms.get(&id) else { return };
                self.tell(room, None, &event(id, "speakers", json!({ "participants": speakers })));
                drop(rooms);
                self.direct(id);
            }
        }
    }

    fn tell_member(&self, member: MemberId, what: &str, words: Value) {
        let rooms = self.lock();
        let Some((id, participant)) = rooms.by_member.get(&member).copied() else { return };
        let participant = rooms.rooms.get(&id).and_then(|room| room.participant(participant));
        if let Some(participant) = participant {
            self.push(participant, event(id, what, words));
        }
    }
}

/// Why data channels have ended, as clients and metrics name it.
fn ending_name(ending: Ending) -> &'static str {
    match ending {
        Ending::Slow => "slow",
        Ending::TooFast => "too_fast",
        Ending::TooLarge => "too_large",
        Ending::TooManyChannels => "too_many_channels",
        Ending::Protocol => "protocol",
        Ending::Closed => "closed",
    }
}
