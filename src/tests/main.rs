//! The engine from outside: whole nodes in this process, real PostgreSQL, Redis and browser.
#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod accounts;
mod admin;
mod app;
mod broadcaster;
mod browser;
mod bus;
mod chat_log;
mod chat_people;
mod chat_presence;
mod chat_rest;
mod chat_socket;
mod chat_stream;
mod console;
mod console_chat;
mod deploy;
mod door;
mod health;
mod idempotency;
mod licences;
mod limits;
mod live_broadcast;
mod live_edge;
mod live_hostile;
mod live_nodes;
mod live_publish;
mod live_recordings;
mod live_rules;
mod live_store;
mod live_thumbnails;
mod manner;
mod nodes;
mod openapi;
mod postgres;
mod program;
mod proof;
mod services;
mod sessions;
mod social;
mod stage;
mod store;
mod totp;
mod traces;
mod users;
