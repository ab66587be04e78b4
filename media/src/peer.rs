//! One participant's transport: ICE-lite (RFC 8445), DTLS as the server (RFC 6347) and SRTP (RFC 3711, RFC 5764), without sockets and
//! without a clock.
//!
//! Composed of `rtc-dtls` and `rtc-srtp`; the agent is ours, because a lite one only answers ([`crate::stun`]). A full peer connection
//! would cost several times as much for each packet and allocate ten times as often.
//!
//! Nothing is believed before it was proven: an address before a signed binding request came from it, a certificate before it has the
//! fingerprint that came over the signalling, a stream before one of its packets could be opened. State that strangers could make
//! grow is bounded: [`ADDRESSES_MAX`], [`STREAMS_MAX`]. And `rtc-dtls` is not shown what it takes too much of: `guard`.
//!
//! | file | what it settles |
//! |---|---|
//! | `identity` | who each side says it is: certificates, and names and passwords of ICE |
//! | `paths` | which addresses are the participant's, and to which of them it is sent |
//! | `guard` | what of DTLS may go in |
//! | `hello` | which seals the client knows |
//! | `srtp` | the seals of media |
//! | [`client`] | the other side: what a browser does |

pub mod client;
mod guard;
mod hello;
mod identity;
mod paths;
mod srtp;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Offered;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use rtc_srtp::config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP};

use crate::stun::Binding;
use guard::{Guard, Stage};
use hello::SrtpOffer;
use identity::fingerprint;
use paths::Paths;
use srtp::{Opening, Sealing, profile_of};

pub use identity::{Credentials, Fingerprint, Identity, IdentityError};
pub use srtp::STREAMS_MAX;

/// Addresses of one participant that are believed at a time; a phone has two or three. When full the oldest is forgotten.
pub const ADDRESSES_MAX: usize = 8;
/// How long ICE and DTLS may take together.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Without a signed request for so long the participant's consent is gone (RFC 7675 section 5.1).
const CONSENT_LIMIT: Duration = Duration::from_secs(30);
/// Datagrams of a ClientHello that are waited for; Chromium's has two, for its keys against quantum computers are large.
const HELLO_DATAGRAMS_MAX: usize = 4;
/// The DTLS association outlives changes of address, so it knows only this one.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

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
    /// What was done for the participant panicked.
    #[error("the engine failed over the participant")]
    Fault,
    /// The shard failed over all, and has begun anew.
    #[error("the media shard has begun anew")]
    Restarted,
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
    /// Nothing goes in or out any more: the participant said goodbye, or there are no keys for media.
    Closed,
}

impl Dtls {
    fn stage(&self) -> Option<Stage> {
        match self {
            Dtls::Waiting(_) => Some(Stage::Hello),
            Dtls::Shaking(_) => Some(Stage::Shaking),
            Dtls::Done { .. } => Some(Stage::Done),
            Dtls::Closed => None,
        }
    }
}

/// One participant's transport; see the [module documentation](self).
pub struct Peer {
    identity: Arc<Identity>,
    local: Credentials,
    remote_fingerprint: Fingerprint,
    dtls: Dtls,
    guard: Guard,
    /// It was connected once.
    was_connected: bool,
    paths: Paths,
    born: Instant,
    consent: Option<Instant>,
    /// Whatever it is asked for ends in a panic.
    #[cfg(test)]
    pub(crate) is_broken: bool,
}

impl Peer {
    /// A transport for who has a certificate with this fingerprint.
    pub fn new(identity: Arc<Identity>, local: Credentials, remote: Fingerprint, now: Instant) -> Peer {
        Peer {
            identity,
            local,
            remote_fingerprint: remote,
            dtls: Dtls::Waiting(Vec::new()),
            guard: Guard::default(),
            was_connected: false,
            paths: Paths::default(),
            born: now,
            consent: None,
            #[cfg(test)]
            is_broken: false,
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
        #[cfg(test)]
        self.break_on_purpose();
        // RFC 7983: the first byte tells them apart.
        match datagram.first() {
            Some(20..=63) => self.input_dtls(datagram, from, now, out),
            Some(128..=191) => self.input_srtp(datagram, from, now),
            _ => Input::Nothing,
        }
    }

    /// Seals an RTP packet; `None` before the participant is connected.
    pub fn write_rtp(&mut self, packet: &[u8]) -> Option<Transmit> {
        #[cfg(test)]
        self.break_on_purpose();
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
        Some(Transmit { to, bytes: sealing.seal_rtcp(compound)? })
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
        #[cfg(test)]
        self.break_on_purpose();
        match self.consent {
            None if now.saturating_duration_since(self.born) > CONNECT_LIMIT => return Err(Failure::Ice),
            Some(_) if !self.was_connected && now.saturating_duration_since(self.born) > CONNECT_LIMIT => {
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
        #[cfg(test)]
        self.break_on_purpose();
        if let (Dtls::Shaking(endpoint) | Dtls::Done { endpoint, .. }, Some(to)) =
            (&mut self.dtls, self.paths.chosen())
        {
            let _ = endpoint.close(now);
            flush(endpoint, to, out);
        }
        self.dtls = Dtls::Closed;
    }

    /// Ends it without a word, for what would say it may be broken.
    pub fn abandon(&mut self) {
        self.dtls = Dtls::Closed;
    }

    fn input_dtls(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        out: &mut Vec<Transmit>,
    ) -> Input {
        let Some(stage) = self.dtls.stage() else { return Input::Nothing };
        let records = self.guard.sift(datagram, stage);
        if records.is_empty() {
            return Input::Nothing;
        }
        let mut pieces = Vec::new();
        if let Dtls::Waiting(waiting) = &mut self.dtls {
            waiting.push(records.clone());
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
        let events = endpoint.read(now, NOWHERE, None, records).unwrap_or_default();
        flush(endpoint, from, out);
        let (mut input, mut data) = (Input::Nothing, Vec::new());
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete if self.agree(now).is_ok() => input = Input::Connected,
                EndpointEvent::PeerClosed => {
                    // Else it would begin anew with the next ClientHello.
                    self.dtls = Dtls::Closed;
                    input = Input::Closed;
                }
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

    /// The handshake is complete. Without keys for media it was for nothing, and there is no other.
    fn agree(&mut self, now: Instant) -> Result<(), Error> {
        let Dtls::Shaking(endpoint) = std::mem::replace(&mut self.dtls, Dtls::Closed) else {
            return Err(Error::ErrDtlsTransportNotStarted);
        };
        let state = endpoint.get_connection_state(NOWHERE).ok_or(Error::ErrDtlsTransportNotStarted)?;
        let profile = profile_of(state.srtp_protection_profile())?;
        let mut keys = SrtpConfig { profile, ..SrtpConfig::default() };
        let material =
            state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], keys.keying_material_len())?;
        keys.set_session_keys_from_keying_material(material.as_ref(), false)?;
        let provider = self.identity.provider.as_ref();
        let sealing = Box::new(Sealing::new(&keys, provider)?);
        let opening = Box::new(Opening::new(keys, provider, now)?);
        self.dtls = Dtls::Done { endpoint, sealing, opening };
        self.was_connected = true;
        Ok(())
    }

    fn input_srtp(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> Input {
        let Dtls::Done { opening, .. } = &mut self.dtls else { return Input::Nothing };
        let is_rtcp = crate::rtp::rtcp::is_rtcp(datagram);
        let Some(clear) = opening.open(datagram, is_rtcp, now, self.identity.provider.as_ref()) else {
            return Input::Nothing;
        };
        self.paths.hear(from, now);
        if is_rtcp { Input::Rtcp(clear) } else { Input::Rtp(clear) }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("local", &self.local).field("paths", &self.paths).finish_non_exhaustive()
    }
}

fn flush(endpoint: &mut Endpoint, to: SocketAddr, out: &mut Vec<Transmit>) {
    while let Some(message) = endpoint.poll_transmit() {
        out.push(Transmit { to, bytes: message.message });
    }
}

#[cfg(test)]
pub(crate) mod tests;
