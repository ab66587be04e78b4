//! Every goodbye is numbered, and its range says whether to come back: 4000 to 4499 yes, 4500 to 4999 no.

use std::time::Duration;

/// Coming back at once after a drain would send everybody to the other nodes in the same moment.
const SPREAD_DRAIN: Duration = Duration::from_secs(10);
/// A single connection that failed may come back soon.
const SPREAD_SOON: Duration = Duration::from_secs(1);
/// Half of all connections of a node may see the same cause.
const SPREAD_SHARED: Duration = Duration::from_secs(5);

macro_rules! goodbyes {
    ($($variant:ident $code:literal $spread:ident $reason:literal;)*) => {
        /// Why a connection ends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Goodbye {
            $(#[doc = concat!("`", $code, "`: ", $reason, ".")] $variant,)*
        }

        impl Goodbye {
            /// Every goodbye there is, in the order of the table.
            pub const ALL: &'static [Goodbye] = &[$(Goodbye::$variant),*];

            /// The number, which is also the status of the close frame that follows.
            pub const fn code(self) -> u16 {
                match self { $(Goodbye::$variant => $code),* }
            }

            /// What it means, in words.
            pub const fn reason(self) -> &'static str {
                match self { $(Goodbye::$variant => $reason),* }
            }

            /// The number as metrics label it.
            pub const fn label(self) -> &'static str {
                match self { $(Goodbye::$variant => stringify!($code)),* }
            }

            const fn spread(self) -> Duration {
                match self { $(Goodbye::$variant => $spread),* }
            }
        }
    };
}

goodbyes! {
    Drain             4000 SPREAD_DRAIN  "this node is leaving, another takes over";
    SlowConsumer      4001 SPREAD_SOON   "too far behind; resume from where you are";
    InsufficientState 4002 SPREAD_SOON   "this node cannot tell what you missed; resume";
    PingTimeout       4003 SPREAD_SOON   "nothing was heard from you";
    BusLost           4004 SPREAD_SHARED "this node is cut off from the others";
    BadToken          4500 SPREAD_SOON   "the token is not valid";
    TokenExpired      4501 SPREAD_SOON   "the token has expired; get a new one";
    SessionRevoked    4502 SPREAD_SOON   "this session was ended";
    Replaced          4503 SPREAD_SOON   "this device connected again";
    ProtocolError     4504 SPREAD_SOON   "this is not how nova.v1 is spoken";
    RateLimit         4505 SPREAD_SOON   "too many requests, for too long";
    Banned            4506 SPREAD_SOON   "this account may not connect";
}

impl Goodbye {
    /// Whether the client is wanted back.
    pub const fn reconnect(self) -> bool {
        self.code() < 4500
    }

    /// When the client may come back, in milliseconds: `random` (any number) spreads those who hear the same goodbye evenly
    /// over a time that fits its cause. 0 where nobody is wanted back.
    pub fn after_ms(self, random: u32) -> u32 {
        if !self.reconnect() {
            return 0;
        }
        let spread_ms = self.spread().as_millis() as u64;
        // The highest 32 bits of a product of 32 by 32 are the share of the spread.
        u32::try_from((u64::from(random) * spread_ms) >> 32).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_says_whether_to_come_back() {
        let mut codes: Vec<_> = Goodbye::ALL.iter().map(|goodbye| goodbye.code()).collect();
        assert!(codes.is_sorted(), "{codes:?}");
        codes.dedup();
        assert_eq!(codes.len(), Goodbye::ALL.len());
        for goodbye in Goodbye::ALL {
            assert!((4000..5000).contains(&goodbye.code()));
            assert_eq!(goodbye.reconnect(), goodbye.code() <= 4499);
            assert_eq!(goodbye.label(), goodbye.code().to_string());
            assert!(goodbye.reason().len() <= super::super::frame::CONTROL_BYTES_MAX - 2);
        }
    }

    #[test]
    fn those_who_leave_together_come_back_apart() {
        assert_eq!(Goodbye::Drain.after_ms(0), 0);
        assert_eq!(Goodbye::Drain.after_ms(u32::MAX), 9_999);
        assert_eq!(Goodbye::Drain.after_ms(1 << 31), 5_000);
        assert_eq!(Goodbye::Banned.after_ms(u32::MAX), 0, "nobody is asked back who is not wanted");
    }
}
