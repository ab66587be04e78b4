//! Where in a node a participant is: the number of their shard, and how their ufrag says it.
//!
//! Shards of a node are reached at one port, and the kernel gives a datagram to any of them. The first that comes from an address is a
//! binding request (RFC 8445 section 7.2), and its USERNAME begins with the ufrag that was given out here: shard, participant, random
//! letters, and a mark over all of it. The mark keeps shards from carrying to each other what strangers make up: without having been
//! told a ufrag nobody can name another shard. It proves nothing beyond that; what is believed is signed with the password.

use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};

use super::MemberId;

/// Digits of a mark.
const MARK_DIGITS: usize = 8;

/// A shard of a node.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Its number.
    pub shard: u8,
    /// What all shards of the node share.
    pub marks: Marks,
}

/// Marks the ufrags of a node. Made once for all its shards.
#[derive(Debug, Clone, Default)]
pub struct Marks(RandomState);

impl Marks {
    /// Marks a ufrag that is given out.
    pub(super) fn mark(&self, ufrag: &mut String) {
        let mark = self.of(ufrag);
        let _ = write!(ufrag, "{mark:08x}");
    }

    fn of(&self, unmarked: &str) -> u32 {
        self.0.hash_one(unmarked) as u32
    }

    /// The shard a ufrag was given out for, if it was by this node.
    pub fn shard_of(&self, ufrag: &str) -> Option<u8> {
        MemberId::of_token(ufrag).filter(|_| self.are_on(ufrag)).map(MemberId::shard)
    }

    /// Whether a ufrag was given out by this node; by chance one of 2^32 others is taken for one, too.
    pub(super) fn are_on(&self, ufrag: &str) -> bool {
        let split = ufrag.len().checked_sub(MARK_DIGITS).and_then(|at| ufrag.split_at_checked(at));
        split.is_some_and(|(unmarked, mark)| {
            u32::from_str_radix(mark, 16).is_ok_and(|mark| mark == self.of(unmarked))
        })
    }
}

/// A datagram that is for nobody of this shard, as far as it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Astray {
    /// A binding request with a ufrag this node gave to a participant of another shard, who has to say whether it is signed.
    To(u8),
    /// No STUN, and from an address nobody here vouched for.
    Unvouched,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Credentials;

    #[test]
    fn a_ufrag_says_whose_it_is_and_only_ours_are_marked() {
        let marks = Marks::default();
        let id = MemberId { shard: 200, index: 70_000, generation: 9 };
        let given_out = || {
            let mut ufrag = Credentials::generate(&id.token()).unwrap().ufrag;
            marks.mark(&mut ufrag);
            ufrag
        };
        let ours = given_out();
        assert_eq!(MemberId::of_token(&ours), Some(id));
        assert_eq!((marks.shard_of(&ours), Marks::default().shard_of(&ours)), (Some(200), None));
        assert!(marks.are_on(&ours) && marks.clone().are_on(&ours), "all shards of a node have the same");
        assert_ne!(given_out(), ours, "and no two sessions have the same");
        let short = &ours[..ours.len() - 1];
        for made_up in [&*ours.replacen("c8", "c9", 1), short, "äöüäöü", ""] {
            assert!(!marks.are_on(made_up), "{made_up}");
        }
        assert!(!Marks::default().are_on(&ours), "another node's are not ours");
    }
}
