//! One connection, as its worker holds it.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use nova_actors::id::UserId;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::encoded::Class;
use super::hub::SocketKey;
use super::limits::Meter;
use super::outbox::{Outbox, Shed};
use super::seam::{DeviceHandle, Topic};
use super::tally::Tally;
use super::transport::Wire;

/// Pieces given to the socket in one system call.
const PIECES_MAX: usize = 32;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// `connect` is awaited.
    Connecting,
    /// Its token is being looked at.
    Opening,
    /// It speaks and is spoken to.
    Open,
    /// The close frame is on its way; nothing is said any more.
    Closing,
    /// To be forgotten.
    Dead,
}

impl Phase {
    pub(super) fn is_before_open(self) -> bool {
        matches!(self, Phase::Connecting | Phase::Opening)
    }
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// The socket has it.
    Sent,
    /// It waits, or was shed.
    Queued,
    /// It may not be dropped, and does not fit.
    Overflow,
    /// The connection is lost.
    Broken,
}

/// One connection.
pub(super) struct Socket {
    pub(super) key: SocketKey,
    pub(super) wire: Wire,
    /// Whether permessage-deflate was agreed on.
    pub(super) deflate: bool,
    pub(super) phase: Cell<Phase>,
    /// Whether the peer's close frame has arrived.
    pub(super) heard_close: Cell<bool>,
    pub(super) outbox: RefCell<Outbox>,
    /// Of the session's task.
    pub(super) waker: RefCell<Option<Waker>>,
    pub(super) handle: OnceCell<DeviceHandle>,
    /// Whether the deciders know it.
    pub(super) opened: Cell<bool>,
    pub(super) topics: RefCell<Vec<(Topic, usize)>>,
    pub(super) wants_room: RefCell<Vec<oneshot::Sender<()>>>,
    /// Requests whose answer is awaited.
    pub(super) in_flight: Cell<u16>,
    pub(super) strikes: Cell<u16>,
    pub(super) meter: Meter,
    pub(super) user_meter: OnceCell<Arc<Meter>>,
    /// Ticks of the worker's wheel.
    pub(super) armed: Cell<u32>,
    pub(super) ping_at: Cell<u32>,
    pub(super) expires_at: Cell<u32>,
    /// Whether nothing has been heard since the last ping.
    pub(super) unheard: Cell<bool>,
}

impl Socket {
    pub(super) fn new(key: SocketKey, wire: Wire, deflate: bool) -> Socket {
        Socket {
            key,
            wire,
            deflate,
            phase: Cell::new(Phase::Connecting),
            heard_close: Cell::new(false),
            outbox: RefCell::default(),
            waker: RefCell::default(),
            handle: OnceCell::new(),
            opened: Cell::new(false),
            topics: RefCell::default(),
            wants_room: RefCell::default(),
            in_flight: Cell::new(0),
            strikes: Cell::new(0),
            meter: Meter::default(),
            user_meter: OnceCell::new(),
            armed: Cell::new(0),
            ping_at: Cell::new(0),
            expires_at: Cell::new(0),
            unheard: Cell::new(false),
        }
    }

    pub(super) fn user(&self) -> Option<UserId> {
        self.handle.get().map(DeviceHandle::user)
    }

    /// The session's task looks at the socket again.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The connection is lost or over; the session's task clears up.
    pub(super) fn die(&self) {
        self.phase.set(Phase::Dead);
        self.wake();
    }

    /// Straight to the socket when nothing waits before it.
    pub(super) fn write(&self, class: Class, slot: Option<u64>, frame: &Bytes, tally: &Tally) -> Written {
        let mut outbox = self.outbox.borrow_mut();
        let before = outbox.bytes();
        if outbox.is_empty() {
            match self.wire.try_write(frame) {
                Ok(taken) if taken == frame.len() => {
                    if self.wire.holds_bytes() {
                        self.wake();
                    }
                    return Written::Sent;
                }
                Ok(taken) => {
                    outbox.begin(frame.clone(), class, taken);
                    tally.outbox(before, outbox.bytes());
                    self.wake();
                    return Written::Queued;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tally.would_block.add(1),
                Err(_) => return Written::Broken,
            }
            self.wake();
        }
        let mut shed = Shed::default();
        let pushed = outbox.push(frame.clone(), class, slot, &mut shed);
        tally.outbox(before, outbox.bytes());
        tally.shed(&shed);
        if pushed.is_ok() { Written::Queued } else { Written::Overflow }
    }

    /// Gives the socket what waits; `WouldBlock` when something still does.
    pub(super) fn flush(&self, tally: &Tally) -> io::Result<()> {
        let mut outbox = self.outbox.borrow_mut();
        let before = outbox.bytes();
        let flushed = loop {
            if outbox.is_empty() {
                break self.wire.flush();
            }
            let written = {
                let pieces: SmallVec<[IoSlice<'_>; PIECES_MAX]> =
                    outbox.chunks().take(PIECES_MAX).map(IoSlice::new).collect();
                self.wire.try_write_vectored(&pieces)
            };
            match written {
                Ok(taken) => outbox.advance(taken),
                Err(error) => break Err(error),
            }
        };
        tally.outbox(before, outbox.bytes());
        flushed
    }

    /// Puts the last words at the end, or at the front when the peer takes nothing.
    pub(super) fn close(&self, words: [Bytes; 2], at_once: bool, tally: &Tally) {
        {
            let mut outbox = self.outbox.borrow_mut();
            let before = outbox.bytes();
            if at_once {
                self.wire.make_room();
                outbox.last_words(words);
            } else {
                outbox.finish(words);
            }
            tally.outbox(before, outbox.bytes());
        }
        self.phase.set(Phase::Closing);
        self.wants_room.take();
        self.wake();
    }
}
