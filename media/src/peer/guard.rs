//! What of a participant's DTLS is looked at before the library sees it.
//!
//! Until ciphers change handshake messages travel in clear, so whoever has joined can send any. `rtc-dtls` takes more than it needs, and
//! keeps it: pieces of messages that never become whole, without counting those that hold nothing; records under keys that are not there
//! yet; messages of any number after the handshake, which it puts together by calling itself once for each piece of a message. Ten
//! thousand pieces of one byte end the stack of the thread, and with it the process. A client needs five messages, so:
//!
//! - A record is dropped that a client has no use for at its [`Stage`]: messages of servers, data before there are keys, what is in clear
//!   after there are, keys that are changed again.
//! - A message in clear is at most [`MESSAGE_BYTES_MAX`] long and one of the first [`MESSAGES_MAX`], and a piece of it is whole and within it.
//! - What is shaken hands with is counted over the life of the association: [`RECORDS_MAX`], [`BYTES_MAX`], and [`REPEATS_MAX`] after it is
//!   done. That bounds what is kept, how deep pieces are nested, and how often a datagram costs a signature.
//!
//! Nothing dropped here ends anything: who repeats in good faith fits, and who does not runs into the time limit of the handshake.

use bytes::BytesMut;

use crate::bits::ByteReader;

/// Records that shake hands, repetitions included. A browser needs nine, and repeats them eight times at most within the time limit.
const RECORDS_MAX: usize = 160;
/// Their bytes.
const BYTES_MAX: usize = 128 << 10;
/// Such records after the handshake is done: our last flight was lost, and the client repeats its own. The library answers seven times.
const REPEATS_MAX: usize = 64;
/// Bytes of a ClientHello; those with keys against quantum computers have less than 2,000.
const HELLO_BYTES_MAX: u32 = 4 << 10;
/// Bytes of any other message: a chain of certificates with large keys.
const MESSAGE_BYTES_MAX: u32 = 16 << 10;
/// Messages in clear of a client: two ClientHellos, Certificate, ClientKeyExchange, CertificateVerify (RFC 6347 section 4.2.1).
const MESSAGES_MAX: u16 = 5;
/// Bytes of a sealed Finished, under whichever cipher.
const FINISHED_BYTES_MAX: usize = 128;

/// Content types of records (RFC 5246 section 6.2.1).
mod content {
    pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
    pub(super) const APPLICATION_DATA: u8 = 23;
}

/// Messages of a client (RFC 5246 section 7.4).
mod message {
    pub(super) const CLIENT_HELLO: u8 = 1;
    pub(super) const CERTIFICATE: u8 = 11;
    pub(super) const CERTIFICATE_VERIFY: u8 = 15;
    pub(super) const CLIENT_KEY_EXCHANGE: u8 = 16;
}

/// How far the handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The first ClientHello is not whole yet.
    Hello,
    /// Keys are being agreed on.
    Shaking,
    /// There are keys.
    Done,
}

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Guard {
    records: usize,
    bytes: usize,
    repeats: usize,
}

impl Guard {
    /// The records of a datagram that may go in; empty when none may.
    pub(super) fn sift(&mut self, datagram: &[u8], stage: Stage) -> BytesMut {
        let mut sifted = BytesMut::with_capacity(datagram.len());
        let mut records = ByteReader::new(datagram);
        while let Some(record) = Record::read(&mut records) {
            if record.is_of_use(stage) && self.has_room(&record, stage) {
                sifted.extend_from_slice(record.bytes);
            }
        }
        sifted
    }

    /// Counts what shakes hands. Data has its own bounds, and what ends everything comes once.
    fn has_room(&mut self, record: &Record<'_>, stage: Stage) -> bool {
        if stage == Stage::Done && record.content != content::HANDSHAKE {
            return true;
        }
        let is_repeat = usize::from(stage == Stage::Done);
        let counted = (self.records + 1, self.bytes + record.bytes.len(), self.repeats + is_repeat);
        if counted.0 > RECORDS_MAX || counted.1 > BYTES_MAX || counted.2 > REPEATS_MAX {
            return false;
        }
        (self.records, self.bytes, self.repeats) = counted;
        true
    }
}

/// A record (RFC 6347 section 4.1).
struct Record<'a> {
    content: u8,
    epoch: u16,
    body: &'a [u8],
    /// With its header.
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The next that is whole.
    fn read(records: &mut ByteReader<'a>) -> Option<Record<'a>> {
        const HEADER_BYTES: usize = 13;
        let whole = records.rest();
        let content = records.u8().ok()?;
        records.skip(2).ok()?;
        let epoch = records.u16().ok()?;
        records.skip(6).ok()?;
        let len = usize::from(records.u16().ok()?);
        let body = records.take(len).ok()?;
        Some(Record { content, epoch, body, bytes: whole.get(..HEADER_BYTES + len)? })
    }

    fn is_of_use(&self, stage: Stage) -> bool {
        match (self.content, self.epoch, stage) {
            (content::HANDSHAKE, 0, _) => has_messages(self.body, stage),
            (_, _, Stage::Hello) => false,
            (content::HANDSHAKE, 1, _) => (1..=FINISHED_BYTES_MAX).contains(&self.body.len()),
            (content::CHANGE_CIPHER_SPEC, 0, Stage::Shaking) => self.body == [1],
            (content::ALERT, 0, Stage::Shaking) => self.body.len() == 2,
            // Sealed, so it is what it says once it can be opened.
            (content::ALERT | content::APPLICATION_DATA, 1, Stage::Done) => !self.body.is_empty(),
            _ => false,
        }
    }
}

/// Whether a record in clear holds whole messages of a client, or one piece of one (RFC 6347 section 4.2.2). The library takes all that
/// follows the beginning of a message as far as that message is long, so nothing may follow a piece.
fn has_messages(body: &[u8], stage: Stage) -> bool {
    let mut reader = ByteReader::new(body);
    while !reader.is_empty() {
        if piece(&mut reader, stage).is_none() {
            return false;
        }
    }
    !body.is_empty()
}

fn piece(reader: &mut ByteReader<'_>, stage: Stage) -> Option<()> {
    let (kind, whole, number) = (reader.u8().ok()?, reader.u24().ok()?, reader.u16().ok()?);
    let (offset, len) = (reader.u24().ok()?, reader.u24().ok()?);
    reader.skip(usize::try_from(len).ok()?).ok()?;
    let len_max = match (kind, stage) {
        (message::CLIENT_HELLO, Stage::Hello | Stage::Shaking) => HELLO_BYTES_MAX,
        (
            message::CERTIFICATE | message::CLIENT_KEY_EXCHANGE | message::CERTIFICATE_VERIFY,
            Stage::Shaking | Stage::Done,
        ) => MESSAGE_BYTES_MAX,
        _ => return None,
    };
    let is_within = len > 0 && whole <= len_max && offset + len <= whole;
    let is_last = len == whole || reader.is_empty();
    (is_within && is_last && number < MESSAGES_MAX).then_some(())
}

#[cfg(test)]
mod tests;
