//! Nova's deciders: who gets what, in which order.
//!
//! This crate knows no SQL, no sockets and no wire formats. What it needs from the world stands in [`port`] as traits; adapters live
//! in the root package, which depends on this crate and never the other way round.
//!
//! - [`id`]: typed ids, one Rust type per noun. [`clock`]: what time it is.
//! - [`port`]: what is needed from the world. [`memory`]: all of it in memory. `contract` (a cargo feature): what every adapter must
//!   do.
//! - [`conversation`]: what is said, and in which order it is shown.
//! - [`presence`]: who is here, over all nodes.
//! - [`live_stream`]: who may publish, what is on the air, who watches.
//! - [`call`]: the life of a call in a conversation, from ringing to its end. [`room`]: who is in a group call, and who may do what there.
//! - [`directory`]: where actors are found; it starts them on demand, puts them to sleep, and brings them back after a panic.
//!   [`workers`]: the threads they live on. [`observer`]: what is counted of all this.
//! - [`context`]: what actors run in. [`address`]: how they are spoken to. [`error`]: why that failed. `fault` (a cargo feature):
//!   panics on purpose.
//!
//! # Who speaks to whom, and what happens when a mailbox is full
//!
//! | from | to | by | when the mailbox is full | when the actor is asleep | when it panics |
//! |---|---|---|---|---|---|
//! | a door, one request | an actor, by id | [`Directory::send`] | waits for a place within the limit, then `MailboxFull`: the door answers 503 and `Retry-After` | woken, then handled | `Died`: it may have happened; the door answers 503 and the client repeats under its idempotency key |
//! | a door or an actor, a hint (typing, a counter) | an actor, by id | [`Directory::tell`] | `MailboxFull` at once: the hint is dropped | woken, then handled | lost if it was waiting, counted by [`Observer::lost`] |
//! | who holds an address | that actor | [`Address::send`], [`Address::try_send`] | as above, with the message handed back | `Closed` with the message handed back: look up again | as above |
//! | an actor | itself | `ctx.notify`, `ctx.run_later`, `ctx.own_address()` | `notify` and timers pass no mailbox; the address as above | it is awake | ends with it |
//! | an actor | a port | `ctx.spawn` or `ctx.wait` round the port's future | the port says so by its error | it is awake | the port may have done it |
//! | the bus | a subscriber | [`Subscription`], never a mailbox | [`BusEvent::Gap`] in place of what did not fit | nobody is subscribed | dropped with the actor, who subscribes again |
//!
//! Media never passes a mailbox: packets and frames move through bounded rings.
//!
//! Three rules keep this free of deadlock and loss. An actor never awaits another's answer under `ctx.wait` (two could wait for each
//! other until their limits pass); it spawns the question and goes on. What must not be lost is durable before it is acknowledged, so
//! that `Died` is followed by a repetition and never by a hole. And an actor ends itself by [`Context::sleep`], which lets nothing
//! fall; `ctx.stop()` drops what waits, and is counted.
//!
//! # Panics
//!
//! A panic ends one actor and nothing else. What that rests on:
//!
//! - An actor is one task on its thread; [`context`] catches a panic at that task, so it comes neither to the neighbours nor to the
//!   thread. Release builds keep `panic = "unwind"` for it.
//! - actix's own destructor would run `stopping` and `stopped` on the broken actor during the unwinding; here nothing of it runs again
//!   but `Drop`, and a panic in that is caught too.
//! - Senders inside the mailbox hear `Died` at once; those before the gate get their message back.
//! - The directory starts it again from what is durable, after a back-off; a crash loop is left alone and says when to come back.
//! - What a panic does not undo: a `Mutex` shared outside of the actor, a thread blocked for ever, a process out of memory or stack.
//!
//! [`Directory::send`]: directory::Directory::send
//! [`Directory::tell`]: directory::Directory::tell
//! [`Address::send`]: address::Address::send
//! [`Address::try_send`]: address::Address::try_send
//! [`Observer::lost`]: observer::Observer::lost
//! [`Context::sleep`]: context::Context::sleep
//! [`Subscription`]: port::Subscription
//! [`BusEvent::Gap`]: port::BusEvent::Gap

pub mod address;
pub mod call;
pub mod clock;
pub mod context;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod conversation;
pub mod directory;
pub mod error;
#[cfg(any(test, feature = "fault"))]
pub mod fault;
mod gate;
mod hears_faults;
pub mod id;
pub mod live_stream;
pub mod memory;
pub mod observer;
pub mod port;
pub mod presence;
pub mod room;
pub mod workers;
