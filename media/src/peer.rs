//! One participant's transport: ICE-lite (RFC 8445), DTLS as the server (RFC 6347) and SRTP (RFC 3711, RFC 5764), without sockets and
//! without a clock.
//!
//! Composed of `rtc-dtls` and `rtc-srtp`; the agent is ours, because a lite one only answers ([`crate::stun`]). A full peer connection
//! would cost several times as much for each packet and allocate ten times as often.
//!
//! Nothing is believed before it was proven: an address before a signed binding request came from it, a certificate before it has the
//! fingerprint that came over the signalling, a stream before one of its packets could be opened. State that strangers could make
//! grow is bounded: [`ADDRESSES_MAX`], [`STREAMS_MAX`].

pub mod client;
mod paths;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ring::digest;
use ring::rand::SecureRandom as _;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Offered;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use rtc_srtp::config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

use crate::bits::ByteReader;
use crate::stun::Binding;
use paths::Paths;

/// Addresses of one participant that are believed at a time; a phone has two or three. When full the oldest is forgotten.
pub const ADDRESSES_MAX: usize = 8;
/// Streams a participant may send: three layers, their retransmissions, and sound, for camera and screen, twice.
pub const STREAMS_MAX: usize = 32;
/// Streams that may be tried a second beyond those that are known; each costs a derivation of keys.
const TRIES_PER_S: u32 = 40;
/// Packets that may come out of order before SRTP takes them for repeats: a burst of a large picture, reordered.
const REPLAY_WINDOW: usize = 1_024;
/// How long ICE and DTLS may take together.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Without a signed request for so long the participant's consent is gone (RFC 7675 section 5.1).
const CONSENT_LIMIT: Duration = Duration::from_secs(30);
/// Datagrams of a ClientHello that are waited for; Chromium's has two, for its keys against quantum computers are large.
const HELLO_DATAGRAMS_MAX: usize = 4;
/// The DTLS association outlives changes of address, so it knows only this one.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// A SHA-256 fingerprint of a certificate (RFC 8122 section 5).
pub type Fingerprint = [u8; 32];

/// A key and its certificate, made anew with every process.
pub struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: Certificate,
    fingerprint: Fingerprint,
}

/// Why no identity could be made.
#[derive(Debug, thiserror::Error)]
#[error("no certificate for calls could be made: {0}")]
pub struct IdentityError(String);

impl Identity {
    /// A new key on P-256.
    pub fn generate() -> Result<Identity, IdentityError> {
        let provider = rtc_crypto::default_provider().map_err(|error| IdentityError(error.to_string()))?;
        let certificate = Certificate::generate_self_signed(vec!["nova".to_owned()], provider.crypto())
            .map_err(|error| IdentityError(error.to_string()))?;
        let der = certificate.certificate.first().ok_or_else(|| IdentityError("it is empty".to_owned()))?;
        let fingerprint = fingerprint(der);
        Ok(Identity { provider, certificate, fingerprint })
    }

    /// What the signalling says of it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

fn fingerprint(der: &[u8]) -> Fingerprint {
    let digest = digest::digest(&digest::SHA256, der);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Name and password of one side of an ICE session.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// 4 to 256 characters of `A-Z a-z 0-9 + /`.
    pub ufrag: String,
    /// 22 to 256 characters of the same.
    pub password: String,
}

impl Credentials {
    /// New ones. The ufrag begins with `token`, by which a datagram finds its shard and participant.
    pub fn generate(token: &str) -> Result<Credentials, ring::error::Unspecified> {
        Ok(Credentials { ufrag: format!("{token}{}", random_text(6)?), password: random_text(24)? })
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

fn random_text(len: usize) -> Result<String, ring::error::Unspecified> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = vec![0; len];
    ring::rand::SystemRandom::new().fill(&mut random)?;
    let letter = |byte: u8| LETTERS.get(usize::from(byte & 63)).map(|letter| char::from(*letter));
    Ok(random.into_iter().filter_map(letter).collect())
}

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub bytes: BytesMut,
}

/// What a datagram meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing beyond what was answered already.
    Nothing,
    /// Media may flow from now on.
    Connected,
    /// A packet in clear.
    Rtp(BytesMut),
    /// A compound in clear.
    Rtcp(BytesMut),
    /// Packets of SCTP, as they came over DTLS (RFC 8261).
    Data(Vec<BytesMut>),
    /// The participant said goodbye.
    Closed,
}

/// Why a participant's transport has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No signed binding request came: a firewall, or a wrong public address.
    #[error("no path to the participant was found")]
    Ice,
    /// There is a path, but the keys could not be agreed on.
    #[error("the participant could not be agreed with on keys")]
    Dtls,
    /// It was connected, and nothing comes any more.
    #[error("the participant is silent")]
    Silent,
}

enum Dtls {
    /// The ClientHello is not whole yet; what will be listed depends on what the client offers.
    Waiting(Vec<BytesMut>),
    Shaking(Box<Endpoint>),
    Done {
        endpoint: Box<Endpoint>,
        sealing: Box<Sealing>,
        opening: Box<Opening>,
    },
}

/// Seals packets.
struct Sealing {
    context: Context,
    /// Filled anew for each packet: reading every header again would cost three allocations a packet.
    header: rtc_rtp::Header,
}

impl Sealing {
    fn seal_rtp(&mut self, packet: &[u8]) -> Option<BytesMut> {
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
}

/// Opens packets; streams become known only by a packet that could be opened.
struct Opening {
    keys: SrtpConfig,
    context: Context,
    known: Vec<u32>,
    tries: u32,
    tries_since: Instant,
}

/// One participant's transport; see the [module documentation](self).
pub struct Peer {
    identity: Arc<Identity>,
    local: Credentials,
    remote_fingerprint: Fingerprint,
    dtls: Dtls,
    paths: Paths,
    born: Instant,
    consent: Option<Instant>,
}

impl Peer {
    /// A transport for who has a certificate with this fingerprint.
    pub fn new(identity: Arc<Identity>, local: Credentials, remote: Fingerprint, now: Instant) -> Peer {
        Peer {
            identity,
            local,
            remote_fingerprint: remote,
            dtls: Dtls::Waiting(Vec::new()),
            paths: Paths::default(),
            born: now,
            consent: None,
        }
    }

    /// Our side of the ICE session.
    pub fn credentials(&self) -> &Credentials {
        &self.local
    }

    /// Begins a new ICE session over the same keys: the participant's network has changed (RFC 8445 section 9).
    pub fn restart(&mut self, local: Credentials, now: Instant) {
        self.local = local;
        self.consent = Some(now);
    }

    /// Whether media can flow.
    pub fn is_connected(&self) -> bool {
        matches!(self.dtls, Dtls::Done { .. }) && self.paths.chosen().is_some()
    }

    /// Where its packets go.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.paths.chosen()
    }

    /// Whether its packets took another way since this was last asked, and some were lost meanwhile: what it sees has to begin anew.
    pub fn take_moved(&mut self) -> bool {
        self.paths.take_moved()
    }

    /// Whether datagrams from here are its.
    pub fn believes(&self, from: SocketAddr) -> bool {
        self.paths.knows(from)
    }

    /// A binding request to our ufrag. `None` when it is not signed with our password; else the answer, and an address that is
    /// not believed any more, if there are too many.
    pub fn hear_binding(
        &mut self,
        binding: &Binding<'_>,
        from: SocketAddr,
        now: Instant,
    ) -> Option<(Transmit, Option<SocketAddr>)> {
        if binding.to_ufrag != self.local.ufrag || !binding.is_signed_with(self.local.password.as_bytes()) {
            return None;
        }
        self.consent = Some(now);
        let forgotten = self.paths.sign(from, binding.nominates, now);
        let answer = binding.answer(from, self.local.password.as_bytes());
        Some((Transmit { to: from, bytes: BytesMut::from(answer.as_slice()) }, forgotten))
    }

    /// A datagram that is no STUN, from an address that is [believed](Self::believes).
    pub fn input(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        out: &mut Vec<Transmit>,
    ) -> Input {
        // RFC 7983: the first byte tells them apart.
        match datagram.first() {
            Some(20..=63) => self.input_dtls(datagram, from, now, out),
            Some(128..=191) => self.input_srtp(datagram, from, now),
            _ => Input::Nothing,
        }
    }

    /// Seals an RTP packet; `None` before the participant is connected.
    pub fn write_rtp(&mut self, packet: &[u8]) -> Option<Transmit> {
        let (Dtls::Done { sealing, .. }, Some(to)) = (&mut self.dtls, self.paths.chosen()) else {
            return None;
        };
        Some(Transmit { to, bytes: sealing.seal_rtp(packet)? })
    }

    /// Seals a compound RTCP packet; `None` before the participant is connected.
    pub fn write_rtcp(&mut self, compound: &[u8]) -> Option<Transmit> {
        let (Dtls::Done { sealing, .. }, Some(to)) = (&mut self.dtls, self.paths.chosen()) else {
            return None;
        };
        Some(Transmit { to, bytes: sealing.context.encrypt_rtcp(compound).ok()? })
    }

    /// Seals a packet of SCTP; nothing is sent before the participant is connected.
    pub fn write_data(&mut self, packet: &[u8], now: Instant, out: &mut Vec<Transmit>) {
        let (Dtls::Done { endpoint, .. }, Some(to)) = (&mut self.dtls, self.paths.chosen()) else { return };
        // One that the participant has closed takes nothing any more.
        let _ = endpoint.write(now, NOWHERE, packet);
        flush(endpoint, to, out);
    }

    /// Repeats what was lost of the handshake; to be asked every [`Peer::POLL`] or so.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<Transmit>) -> Result<(), Failure> {
        let connected = matches!(self.dtls, Dtls::Done { .. });
        match self.consent {
            None if now.saturating_duration_since(self.born) > CONNECT_LIMIT => return Err(Failure::Ice),
            Some(_) if !connected && now.saturating_duration_since(self.born) > CONNECT_LIMIT => {
                return Err(Failure::Dtls);
            }
            Some(at) if now.saturating_duration_since(at) > CONSENT_LIMIT => return Err(Failure::Silent),
            _ => {}
        }
        self.paths.poll(now);
        if let (Dtls::Shaking(endpoint), Some(to)) = (&mut self.dtls, self.paths.chosen()) {
            // Too many repetitions end in the time limit above.
            let _ = endpoint.handle_timeout(NOWHERE, now);
            flush(endpoint, to, out);
        }
        Ok(())
    }

    /// Nobody was there to hear the participant for so long.
    pub fn excuse(&mut self, away: Duration) {
        self.born += away;
        self.consent = self.consent.map(|at| at + away);
        self.paths.excuse(away);
    }

    /// How often [`Peer::poll`] is worth asking.
    pub const POLL: Duration = Duration::from_millis(50);

    /// Says goodbye.
    pub fn close(&mut self, now: Instant, out: &mut Vec<Transmit>) {
        if let (Dtls::Shaking(endpoint) | Dtls::Done { endpoint, .. }, Some(to)) =
            (&mut self.dtls, self.paths.chosen())
        {
            let _ = endpoint.close(now);
            flush(endpoint, to, out);
        }
    }

    fn input_dtls(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        out: &mut Vec<Transmit>,
    ) -> Input {
        let mut pieces = Vec::new();
        if let Dtls::Waiting(waiting) = &mut self.dtls {
            waiting.push(BytesMut::from(datagram));
            let offer = SrtpOffer::read(waiting);
            if offer == SrtpOffer::Unfinished && waiting.len() < HELLO_DATAGRAMS_MAX {
                return Input::Nothing;
            }
            pieces = std::mem::take(waiting);
            // The last is this one.
            pieces.pop();
            let Ok(config) = self.handshake(offer) else { return Input::Nothing };
            let endpoint = Endpoint::new(NOWHERE, TransportProtocol::UDP, Some(Arc::new(config)));
            self.dtls = Dtls::Shaking(Box::new(endpoint));
        }
        let (Dtls::Shaking(endpoint) | Dtls::Done { endpoint, .. }) = &mut self.dtls else {
            return Input::Nothing;
        };
        // What cannot be read is not the participant's, or will be repeated.
        for piece in pieces {
            let _ = endpoint.read(now, NOWHERE, None, piece);
        }
        let events = endpoint.read(now, NOWHERE, None, BytesMut::from(datagram)).unwrap_or_default();
        flush(endpoint, from, out);
        let (mut input, mut data) = (Input::Nothing, Vec::new());
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete if self.agree(now).is_ok() => input = Input::Connected,
                EndpointEvent::PeerClosed => input = Input::Closed,
                EndpointEvent::ApplicationData(packet) => data.push(packet),
                _ => {}
            }
        }
        // What came with the end of the handshake, or of everything, is repeated or worth nothing.
        if input == Input::Nothing && !data.is_empty() { Input::Data(data) } else { input }
    }

    /// AES-GCM is a fraction of the cost of AES-CM with HMAC, but `rtc-dtls` follows the client's order; so the other is listed only
    /// for a client that has nothing else.
    fn handshake(&self, offer: SrtpOffer) -> Result<HandshakeConfig, Error> {
        let gcm = vec![Offered::Srtp_Aead_Aes_128_Gcm, Offered::Srtp_Aead_Aes_256_Gcm];
        let profiles = match offer {
            SrtpOffer::Gcm => gcm,
            SrtpOffer::Other => vec![Offered::Srtp_Aes128_Cm_Hmac_Sha1_80],
            SrtpOffer::Unfinished => [gcm, vec![Offered::Srtp_Aes128_Cm_Hmac_Sha1_80]].concat(),
        };
        let wanted = self.remote_fingerprint;
        let verify = move |certificates: &[Vec<u8>], _: &[_]| match certificates.first() {
            Some(der) if fingerprint(der) == wanted => Ok(()),
            _ => Err(Error::ErrNoMatchingCertificateFingerprint),
        };
        ConfigBuilder::default()
            .with_crypto_provider(self.identity.provider.clone())
            .with_certificates(vec![self.identity.certificate.clone()])
            .with_srtp_protection_profiles(profiles)
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // Nobody signs these certificates; the fingerprint is what is verified.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(verify)))
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(false, None)
    }

    fn agree(&mut self, now: Instant) -> Result<(), Error> {
        let Dtls::Shaking(endpoint) = std::mem::replace(&mut self.dtls, Dtls::Waiting(Vec::new())) else {
            return Ok(());
        };
        let state = endpoint.get_connection_state(NOWHERE).ok_or(Error::ErrDtlsTransportNotStarted)?;
        let profile = profile_of(state.srtp_protection_profile())?;
        let mut keys = SrtpConfig { profile, ..SrtpConfig::default() };
        let material =
            state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], keys.keying_material_len())?;
        keys.set_session_keys_from_keying_material(material.as_ref(), false)?;
        let crypto = self.identity.provider.crypto();
        let (key, salt) = (&keys.keys.local_master_key, &keys.keys.local_master_salt);
        let context = Context::new(key, salt, profile, None, None, crypto)?;
        let sealing = Box::new(Sealing { context, header: rtc_rtp::Header::default() });
        let context = opening(&keys, self.identity.provider.as_ref())?;
        let opening = Box::new(Opening { keys, context, known: Vec::new(), tries: 0, tries_since: now });
        self.dtls = Dtls::Done { endpoint, sealing, opening };
        Ok(())
    }

    fn input_srtp(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> Input {
        let Dtls::Done { opening, .. } = &mut self.dtls else { return Input::Nothing };
        let is_rtcp = crate::rtp::rtcp::is_rtcp(datagram);
        let mut reader = ByteReader::new(datagram);
        let Ok(ssrc) = reader.skip(if is_rtcp { 4 } else { 8 }).and_then(|()| reader.u32()) else {
            return Input::Nothing;
        };
        if !opening.known.contains(&ssrc)
            && !opening.admit(ssrc, is_rtcp, datagram, now, self.identity.provider.as_ref())
        {
            return Input::Nothing;
        }
        let opened = if is_rtcp {
            opening.context.decrypt_rtcp(datagram)
        } else {
            opening.context.decrypt_rtp(datagram)
        };
        if opened.is_ok() {
            self.paths.hear(from, now);
        }
        match opened {
            Ok(clear) if is_rtcp => Input::Rtcp(clear),
            Ok(clear) => Input::Rtp(clear),
            // Repeated, changed on the way, or not the participant's.
            Err(_) => Input::Nothing,
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("local", &self.local).field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Opening {
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

fn profile_of(agreed: Offered) -> Result<ProtectionProfile, Error> {
    match agreed {
        Offered::Srtp_Aead_Aes_128_Gcm => Ok(ProtectionProfile::AeadAes128Gcm),
        Offered::Srtp_Aead_Aes_256_Gcm => Ok(ProtectionProfile::AeadAes256Gcm),
        Offered::Srtp_Aes128_Cm_Hmac_Sha1_80 => Ok(ProtectionProfile::Aes128CmHmacSha1_80),
        _ => Err(Error::ErrNoSuchSrtpProfile),
    }
}

fn opening(keys: &SrtpConfig, provider: &dyn RTCCryptoProvider) -> Result<Context, Error> {
    let (key, salt) = (&keys.keys.remote_master_key, &keys.keys.remote_master_salt);
    let (rtp, rtcp) = (srtp_replay_protection(REPLAY_WINDOW), srtcp_replay_protection(64));
    Context::new(key, salt, keys.profile, Some(rtp), Some(rtcp), provider.crypto())
}

fn flush(endpoint: &mut Endpoint, to: SocketAddr, out: &mut Vec<Transmit>) {
    while let Some(message) = endpoint.poll_transmit() {
        out.push(Transmit { to, bytes: message.message });
    }
}

/// What a ClientHello offers for SRTP (RFC 5764 section 4.1.1, RFC 7714).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SrtpOffer {
    /// AES-GCM among others.
    Gcm,
    /// Others only.
    Other,
    /// It is not whole yet, or its pieces came out of order.
    Unfinished,
}

impl SrtpOffer {
    /// Reads the datagrams of a ClientHello (RFC 6347 section 4.2.2).
    fn read(datagrams: &[BytesMut]) -> SrtpOffer {
        let mut hello = Vec::new();
        for datagram in datagrams {
            let mut records = ByteReader::new(datagram);
            // A datagram holds one record or several.
            while let Some((len, offset, piece)) = hello_piece(&mut records) {
                if offset == hello.len() && hello.len() + piece.len() <= len {
                    hello.extend_from_slice(piece);
                }
                if hello.len() == len {
                    return match offers_gcm(&hello) {
                        Some(true) => SrtpOffer::Gcm,
                        _ => SrtpOffer::Other,
                    };
                }
            }
        }
        SrtpOffer::Unfinished
    }
}

/// The next record, if it is a piece of a ClientHello: the length of the whole, where the piece begins, and the piece.
fn hello_piece<'a>(records: &mut ByteReader<'a>) -> Option<(usize, usize, &'a [u8])> {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let kind = records.u8().ok()?;
    records.skip(2 + 8).ok()?;
    let len = usize::from(records.u16().ok()?);
    let mut record = ByteReader::new(records.take(len).ok()?);
    if kind != HANDSHAKE || record.u8().ok()? != CLIENT_HELLO {
        return None;
    }
    let whole = usize::try_from(record.u24().ok()?).ok()?;
    record.skip(2).ok()?;
    let offset = usize::try_from(record.u24().ok()?).ok()?;
    let len = usize::try_from(record.u24().ok()?).ok()?;
    Some((whole, offset, record.take(len).ok()?))
}

/// Whether a whole ClientHello offers an AES-GCM profile; `None` when it offers none at all.
fn offers_gcm(hello: &[u8]) -> Option<bool> {
    const USE_SRTP: u16 = 14;
    let mut reader = ByteReader::new(hello);
    // Version and random; then session, cookie, cipher suites, compression methods, and the length of the extensions.
    reader.skip(2 + 32).ok()?;
    for _ in 0..2 {
        let len = usize::from(reader.u8().ok()?);
        reader.skip(len).ok()?;
    }
    let len = usize::from(reader.u16().ok()?);
    reader.skip(len).ok()?;
    let len = usize::from(reader.u8().ok()?);
    reader.skip(len).ok()?;
    reader.skip(2).ok()?;
    loop {
        let (kind, len) = (reader.u16().ok()?, usize::from(reader.u16().ok()?));
        let value = reader.take(len).ok()?;
        if kind == USE_SRTP {
            let mut profiles = ByteReader::new(value);
            let len = usize::from(profiles.u16().ok()?);
            let list = profiles.take(len).ok()?;
            return Some(list.chunks_exact(2).any(|profile| matches!(profile, [0, 7 | 8])));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
