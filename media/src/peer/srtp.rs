//! The seals of media (RFC 3711, RFC 7714), with the keys that DTLS agreed on (RFC 5764).

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Offered;
use rtc_shared::error::Error;
use rtc_srtp::config::Config as SrtpConfig;
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

use crate::bits::ByteReader;

/// Streams a participant may send: three layers, their retransmissions, and sound, for camera and screen, twice.
pub const STREAMS_MAX: usize = 32;
/// Streams that may be tried a second beyond those that are known; each costs a derivation of keys.
pub(super) const TRIES_PER_S: u32 = 40;
/// Packets that may come out of order before SRTP takes them for repeats: a burst of a large picture, reordered.
const REPLAY_WINDOW: usize = 1_024;

/// Seals packets.
pub(super) struct Sealing {
    context: Context,
    /// Filled anew for each packet: reading every header again would cost three allocations a packet.
    header: rtc_rtp::Header,
}

impl Sealing {
    /// With our half of the keys.
    pub(super) fn new(keys: &SrtpConfig, provider: &dyn RTCCryptoProvider) -> Result<Sealing, Error> {
        let (key, salt) = (&keys.keys.local_master_key, &keys.keys.local_master_salt);
        let context = Context::new(key, salt, keys.profile, None, None, provider.crypto())?;
        Ok(Sealing { context, header: rtc_rtp::Header::default() })
    }

    /// Seals an RTP packet; `None` when it is none.
    pub(super) fn seal_rtp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        let mut reader = ByteReader::new(packet);
        let first = reader.u8().ok()?;
        reader.skip(1).ok()?;
        self.header.sequence_number = reader.u16().ok()?;
        reader.skip(4).ok()?;
        self.header.ssrc = reader.u32().ok()?;
        let mut words = usize::from(first & 0x0F);
        if first & 0x10 != 0 {
            reader.skip(words * 4 + 2).ok()?;
            words += 1 + usize::from(reader.u16().ok()?);
        }
        // The cipher asks only for the length, the stream and the number; a list of contributing sources has any length.
        self.header.csrc.resize(words, 0);
        if packet.len() < 12 + words * 4 {
            return None;
        }
        self.context.encrypt_rtp_with_header(packet, &self.header).ok()
    }

    /// Seals a compound RTCP packet.
    pub(super) fn seal_rtcp(&mut self, compound: &[u8]) -> Option<BytesMut> {
        self.context.encrypt_rtcp(compound).ok()
    }
}

/// Opens packets; streams become known only by a packet that could be opened.
pub(super) struct Opening {
    pub(super) keys: SrtpConfig,
    context: Context,
    pub(super) known: Vec<u32>,
    pub(super) tries: u32,
    tries_since: Instant,
}

impl Opening {
    /// With the participant's half of the keys.
    pub(super) fn new(
        keys: SrtpConfig,
        provider: &dyn RTCCryptoProvider,
        now: Instant,
    ) -> Result<Opening, Error> {
        let context = opening(&keys, provider)?;
        Ok(Opening { keys, context, known: Vec::new(), tries: 0, tries_since: now })
    }

    /// Opens a packet; `None` when it was repeated, changed on the way, or is not the participant's.
    pub(super) fn open(
        &mut self,
        datagram: &[u8],
        is_rtcp: bool,
        now: Instant,
        provider: &dyn RTCCryptoProvider,
    ) -> Option<BytesMut> {
        let mut reader = ByteReader::new(datagram);
        let ssrc = reader.skip(if is_rtcp { 4 } else { 8 }).and_then(|()| reader.u32()).ok()?;
        if !self.known.contains(&ssrc) && !self.admit(ssrc, is_rtcp, datagram, now, provider) {
            return None;
        }
        let opened = match is_rtcp {
            true => self.context.decrypt_rtcp(datagram),
            false => self.context.decrypt_rtp(datagram),
        };
        opened.ok()
    }

    /// The context remembers every stream it was asked for, opened or not; so a stream is tried on one of its own first.
    fn admit(
        &mut self,
        ssrc: u32,
        is_rtcp: bool,
        datagram: &[u8],
        now: Instant,
        provider: &dyn RTCCryptoProvider,
    ) -> bool {
        if now.saturating_duration_since(self.tries_since) > Duration::from_secs(1) {
            (self.tries, self.tries_since) = (0, now);
        }
        if self.known.len() >= STREAMS_MAX || self.tries >= TRIES_PER_S {
            return false;
        }
        self.tries += 1;
        let Ok(mut alone) = opening(&self.keys, provider) else { return false };
        let opened = if is_rtcp { alone.decrypt_rtcp(datagram) } else { alone.decrypt_rtp(datagram) };
        if opened.is_ok() {
            self.known.push(ssrc);
        }
        opened.is_ok()
    }
}

/// What was agreed on in DTLS, as SRTP names it.
pub(super) fn profile_of(agreed: Offered) -> Result<ProtectionProfile, Error> {
    match agreed {
        Offered::Srtp_Aead_Aes_128_Gcm => Ok(ProtectionProfile::AeadAes128Gcm),
        Offered::Srtp_Aead_Aes_256_Gcm => Ok(ProtectionProfile::AeadAes256Gcm),
        Offered::Srtp_Aes128_Cm_Hmac_Sha1_80 => Ok(ProtectionProfile::Aes128CmHmacSha1_80),
        _ => Err(Error::ErrNoSuchSrtpProfile),
    }
}

/// Opens what the other side seals.
pub(super) fn opening(keys: &SrtpConfig, provider: &dyn RTCCryptoProvider) -> Result<Context, Error> {
    let (key, salt) = (&keys.keys.remote_master_key, &keys.keys.remote_master_salt);
    let (rtp, rtcp) = (srtp_replay_protection(REPLAY_WINDOW), srtcp_replay_protection(64));
    Context::new(key, salt, keys.profile, Some(rtp), Some(rtcp), provider.crypto())
}
