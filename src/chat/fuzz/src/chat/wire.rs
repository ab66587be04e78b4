//! The readers of requests, where they lie.

#[path = "../../../wire/from_device.rs"]
pub mod from_device;
#[path = "../../../wire/requests.rs"]
pub mod requests;
#[path = "../../../wire/rfc3339_ms.rs"]
pub mod rfc3339_ms;
