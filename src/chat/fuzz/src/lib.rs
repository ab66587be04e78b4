//! What the door reads from strangers, without the house around it.
//!
//! The frame reader, the decompressor and the reader of requests know no sockets, no clock and no database. Their files are
//! compiled here as they are, so fuzzing builds some seconds' worth of code where the engine would be minutes; a crate of
//! their own would be a fourth room for three files. What they ask of the house is the name of a refusal and the shape of a
//! movement.
#![allow(dead_code, reason = "the house uses all of it")]

pub mod error {
    //! The refusals a request can meet before anybody looks at what it wants.

    /// As in the house.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Code {
        MalformedJson,
        InvalidFields,
        UnknownType,
    }
}

pub mod conversations {
    pub mod draft {
        use serde::{Deserialize, Serialize};

        /// As in the house.
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        #[serde(untagged, deny_unknown_fields)]
        pub enum Movement {
            To { latitude: f64, longitude: f64, accuracy_m: Option<f64> },
            Ended { ended: bool },
        }
    }
}

pub mod chat;
