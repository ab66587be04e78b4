//! Between nodes: the adapters of [`nova_actors::port::Bus`].
//!
//! A node that is alone uses [`nova_actors::memory::Bus`], which is the in-process adapter; several nodes meet at a
//! [`redis::Bus`]. One suite, `nova_actors::contract::bus`, holds both to the same promises.

pub mod redis;
