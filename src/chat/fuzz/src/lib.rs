//! What the door reads from strangers, without the house around it.
//!
//! The frame reader, the decompressor and the reader of requests know no sockets, no clock and no database. Their files are
//! compiled here as they are, so fuzzing builds some seconds' worth of code where the engine would be minutes; a crate of
//! their own would be a fourth room for three files. The one thing they ask of the house is the name of a refusal.
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

pub mod chat {
    #[path = "../../../deflate.rs"]
    pub mod deflate;
    #[path = "../../../frame.rs"]
    pub mod frame;

    pub mod wire {
        #[path = "../../../../wire/from_device.rs"]
        pub mod from_device;
        #[path = "../../../../wire/requests.rs"]
        pub mod requests;
        #[path = "../../../../wire/rfc3339_ms.rs"]
        pub mod rfc3339_ms;
    }
}
