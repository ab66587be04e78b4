//! Actors under panics, sleep and full mailboxes, with a small actor whose state is durable.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "that is how tests fail")]
#![allow(missing_docs, unreachable_pub, reason = "the tests' names say it")]

mod crashes;
mod ledger;
mod mailboxes;
mod sleep;
