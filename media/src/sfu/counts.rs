//! What is counted in a shard since it began, and how its participants do at a moment.

/// What is counted, since the shard began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// RTP packets that were opened.
    pub packets_in: u64,
    /// Bytes of their payloads.
    pub bytes_in: u64,
    /// RTP packets that were sent.
    pub packets_out: u64,
    /// Bytes of their payloads.
    pub bytes_out: u64,
    /// Packets of sound that were not sent, since they say nothing.
    pub silent: u64,
    /// Packets subscribers asked for again and got.
    pub repeated: u64,
    /// Packets publishers were asked for again.
    pub asked_again: u64,
    /// Keyframes publishers were asked for.
    pub keyframes_asked: u64,
    /// Packets subscribers asked for again, whether or not they got them.
    pub nacked: u64,
    /// Keyframes subscribers asked for.
    pub keyframes_wished: u64,
    /// Packets that were sent to see what a path carries.
    pub probes: u64,
    /// Datagrams from addresses nobody vouched for.
    pub unknown: u64,
    /// Packets of participants who publish more than they may, all together.
    pub refused_bitrate: u64,
    /// Packets and pieces of sound of participants who publish more sound than they may.
    pub refused_sound: u64,
    /// Panics over participants, who were expelled.
    pub panics: u64,
    /// Compounds of RTCP of participants who say more than they may.
    pub refused_rtcp: u64,
    /// Messages that came on data channels.
    pub messages_in: u64,
    /// Messages that were given to data channels.
    pub messages_out: u64,
    /// Messages that were lost because their sender said more than may be said.
    pub messages_too_fast: u64,
    /// Messages that were lost because their receiver was slow.
    pub messages_too_slow: u64,
    /// Messages of participants who only listen.
    pub messages_refused: u64,
}

/// How participants do at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// Tracks in slots that are paused because a path does not carry them.
    pub paused: usize,
    /// What paths are believed to carry, bits a second, of those that say something.
    pub estimates_bps: Vec<u64>,
    /// Shares of packets that were lost lately on those paths.
    pub losses: Vec<f64>,
}
