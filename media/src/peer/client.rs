//! The other side of a [`Peer`](super::Peer): what a browser does, for load peers and tests. A full ICE agent's requests, the DTLS
//! client, and SRTP; without sockets and without a clock.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Offered;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use rtc_srtp::config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc_srtp::context::Context;

use super::identity::fingerprint;
use super::srtp::{opening, profile_of};
use super::{Credentials, Fingerprint, Identity, NOWHERE};
use crate::rtp::rtcp;
use crate::stun;

/// Why a client cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("the DTLS client cannot begin: {0}")]
pub struct ClientError(#[from] Error);

/// See the [module documentation](self).
pub struct Client {
    identity: Arc<Identity>,
    dtls: Endpoint,
    srtp: Option<Srtp>,
    data: Vec<BytesMut>,
}

struct Srtp {
    sealing: Context,
    opening: Context,
}

impl Client {
    /// A client of the server with this fingerprint. Its ClientHello waits in [`Client::outgoing`].
    pub fn new(identity: Arc<Identity>, server: Fingerprint, now: Instant) -> Result<Client, ClientError> {
        let verify = move |certificates: &[Vec<u8>], _: &[_]| match certificates.first() {
            Some(der) if fingerprint(der) == server => Ok(()),
            _ => Err(Error::ErrNoMatchingCertificateFingerprint),
        };
        let mut dtls = Endpoint::new(NOWHERE, TransportProtocol::UDP, None);
        let config = ConfigBuilder::default()
            .with_crypto_provider(identity.provider.clone())
            .with_certificates(vec![identity.certificate.clone()])
            // In the order of browsers.
            .with_srtp_protection_profiles(vec![
                Offered::Srtp_Aes128_Cm_Hmac_Sha1_80,
                Offered::Srtp_Aead_Aes_128_Gcm,
            ])
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(verify)))
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(true, None)?;
        dtls.connect(now, NOWHERE, Arc::new(config), None)?;
        Ok(Client { identity, dtls, srtp: None, data: Vec::new() })
    }

    /// Of its certificate, for its offer.
    pub fn fingerprint(&self) -> Fingerprint {
        self.identity.fingerprint()
    }

    /// A binding request that chooses the path it goes over.
    pub fn binding(&self, server: &Credentials, password: &str, transaction: [u8; 12]) -> Vec<u8> {
        stun::request(transaction, &server.ufrag, "client", password.as_bytes(), true)
    }

    /// Datagrams of the handshake that wait to be sent.
    pub fn outgoing(&mut self) -> Vec<BytesMut> {
        std::iter::from_fn(|| self.dtls.poll_transmit().map(|message| message.message)).collect()
    }

    /// A DTLS datagram came.
    pub fn hear(&mut self, datagram: &[u8], now: Instant) {
        let events = self.dtls.read(now, NOWHERE, None, BytesMut::from(datagram)).unwrap_or_default();
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => self.srtp = self.agree().ok(),
                EndpointEvent::ApplicationData(packet) => self.data.push(packet),
                _ => {}
            }
        }
    }

    /// Packets of SCTP that came.
    pub fn take_data(&mut self) -> Vec<BytesMut> {
        std::mem::take(&mut self.data)
    }

    /// Seals a packet of SCTP; it waits in [`Client::outgoing`].
    pub fn write_data(&mut self, packet: &[u8], now: Instant) {
        // Before it is connected the endpoint keeps it.
        let _ = self.dtls.write(now, NOWHERE, packet);
    }

    /// Says goodbye, which waits in [`Client::outgoing`].
    pub fn close(&mut self, now: Instant) {
        // Of a handshake that has not begun there is nothing to end.
        let _ = self.dtls.close(now);
    }

    /// Repeats what was lost of the handshake.
    pub fn poll(&mut self, now: Instant) {
        // Whoever waits for the connection gives up by themselves.
        let _ = self.dtls.handle_timeout(NOWHERE, now);
    }

    /// Whether media can flow.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Seals an RTP packet; `None` before it is connected.
    pub fn seal(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.srtp.as_mut()?.sealing.encrypt_rtp(packet).ok()
    }

    /// Seals a compound RTCP packet; `None` before it is connected.
    pub fn seal_rtcp(&mut self, compound: &[u8]) -> Option<BytesMut> {
        self.srtp.as_mut()?.sealing.encrypt_rtcp(compound).ok()
    }

    /// Opens an RTP or RTCP packet; `None` when it is not the server's, or came before.
    pub fn open(&mut self, datagram: &[u8]) -> Option<BytesMut> {
        let opening = &mut self.srtp.as_mut()?.opening;
        let opened = match rtcp::is_rtcp(datagram) {
            true => opening.decrypt_rtcp(datagram),
            false => opening.decrypt_rtp(datagram),
        };
        opened.ok()
    }

    fn agree(&self) -> Result<Srtp, Error> {
        let state = self.dtls.get_connection_state(NOWHERE).ok_or(Error::ErrDtlsTransportNotStarted)?;
        let profile = profile_of(state.srtp_protection_profile())?;
        let mut keys = SrtpConfig { profile, ..SrtpConfig::default() };
        let material =
            state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], keys.keying_material_len())?;
        keys.set_session_keys_from_keying_material(material.as_ref(), true)?;
        let (key, salt) = (&keys.keys.local_master_key, &keys.keys.local_master_salt);
        let sealing = Context::new(key, salt, profile, None, None, self.identity.provider.crypto())?;
        Ok(Srtp { sealing, opening: opening(&keys, self.identity.provider.as_ref())? })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("is_connected", &self.is_connected()).finish_non_exhaustive()
    }
}
