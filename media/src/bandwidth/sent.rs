//! What was sent under which transport-wide number.

use std::collections::VecDeque;

/// Packets that are remembered: two seconds of nine large tiles. When full the oldest is forgotten, as if nobody had asked.
const SENT_MAX: usize = 4_096;
/// What is older is not told about any more.
const AGE_MAX_US: i64 = 2_000_000;

/// Eight bytes, because there are thousands for each receiver.
#[derive(Debug, Clone, Copy)]
struct Packet {
    /// The lower half of the time; the newest is known whole, and none is older than [`AGE_MAX_US`].
    at_us: u32,
    bytes: u16,
    /// Its receiver has said what became of it.
    is_told: bool,
}

/// The last packets, without a gap.
#[derive(Debug, Default)]
pub(super) struct Sent {
    packets: VecDeque<Packet>,
    /// The number of the first of them.
    first: u16,
    /// When the last was sent.
    last_us: i64,
}

impl Sent {
    /// A packet of at most 65,535 bytes goes out; gives its number.
    pub(super) fn push(&mut self, at_us: i64, bytes: u32) -> u16 {
        let at_us = at_us.max(self.last_us);
        if at_us - self.last_us > AGE_MAX_US {
            self.first = self.first.wrapping_add(self.packets.len() as u16);
            self.packets.clear();
        }
        self.last_us = at_us;
        while self.packets.front().is_some_and(|first| at_us - self.whole(first.at_us) > AGE_MAX_US)
            || self.packets.len() >= SENT_MAX
        {
            self.packets.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        let number = self.first.wrapping_add(self.packets.len() as u16);
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        super::make_little_room(&mut self.packets);
        self.packets.push_back(Packet { at_us: at_us as u32, bytes, is_told: false });
        number
    }

    /// What became of a packet is told: when it was sent and how large it was. `None` when that is unknown, or was told before. What was
    /// told to be lost may still be told to have come.
    pub(super) fn told(&mut self, number: u16, has_come: bool) -> Option<(i64, u32)> {
        let at = usize::from(number.wrapping_sub(self.first));
        let packet = self.packets.get_mut(at).filter(|packet| !packet.is_told)?;
        packet.is_told = has_come;
        let packet = *packet;
        Some((self.whole(packet.at_us), packet.bytes.into()))
    }

    /// A time of which the lower half was kept.
    fn whole(&self, lower: u32) -> i64 {
        self.last_us - i64::from((self.last_us as u32).wrapping_sub(lower))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_over_the_wrap_and_the_old_is_forgotten() {
        let mut sent = Sent::default();
        for at in 0..70_000_i64 {
            assert_eq!(sent.push(at * 100, 10), at as u16);
        }
        assert_eq!(sent.packets.len(), SENT_MAX);
        let newest = 69_999_u32 as u16;
        assert_eq!(sent.told(newest, true), Some((6_999_900, 10)));
        assert_eq!(sent.told(newest, true), None);
        assert_eq!(sent.told((70_000 - SENT_MAX) as u16, false), Some((6_590_400, 10)));
        assert_eq!(sent.told((69_999 - SENT_MAX) as u16, true), None);
        sent.push(20_000_000, 1);
        assert_eq!(sent.packets.len(), 1);
        // Longer than the lower half of a time can count.
        let late = 6_000_000_000;
        let number = sent.push(late, 100_000);
        assert_eq!((sent.packets.len(), sent.told(number, true)), (1, Some((late, 65_535))));
        let number = sent.push(late + 1, 2);
        assert_eq!((sent.packets.len(), sent.told(number, true)), (2, Some((late + 1, 2))));
    }
}
