//! `media-events`: uploads, broadcasts and what is kept of them.

/// Media metadata.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MediaMetadata {
    /// Width.
    #[prost(uint32, tag = "1")]
    pub width: u32,
    /// Height.
    #[prost(uint32, tag = "2")]
    pub height: u32,
    /// Size bytes.
    #[prost(uint64, tag = "3")]
    pub size_bytes: u64,
    /// Mime type.
    #[prost(string, tag = "4")]
    pub mime_type: String,
    /// Duration seconds.
    #[prost(double, tag = "5")]
    pub duration_seconds: f64,
}

/// Media uploaded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MediaUploaded {
    /// Media's id.
    #[prost(bytes = "vec", tag = "1")]
    pub media_id: Vec<u8>,
    /// User's id.
    #[prost(bytes = "vec", tag = "2")]
    pub user_id: Vec<u8>,
    /// Empty when it belongs to no post yet.
    #[prost(bytes = "vec", tag = "3")]
    pub post_id: Vec<u8>,
    /// File name.
    #[prost(string, tag = "4")]
    pub file_name: String,
    /// Metadata.
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<MediaMetadata>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub at_ms: i64,
}

/// Stream started.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamStarted {
    /// Stream's id.
    #[prost(bytes = "vec", tag = "1")]
    pub stream_id: Vec<u8>,
    /// Owner's id.
    #[prost(bytes = "vec", tag = "2")]
    pub owner_id: Vec<u8>,
    /// Title.
    #[prost(string, tag = "3")]
    pub title: String,
    /// Not everybody may watch.
    #[prost(bool, tag = "4")]
    pub private: bool,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "5")]
    pub started_at_ms: i64,
}

/// Stream ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamEnded {
    /// Stream's id.
    #[prost(bytes = "vec", tag = "1")]
    pub stream_id: Vec<u8>,
    /// Owner's id.
    #[prost(bytes = "vec", tag = "2")]
    pub owner_id: Vec<u8>,
    /// When it started, in milliseconds since 1970.
    #[prost(int64, tag = "3")]
    pub started_at_ms: i64,
    /// When it ended, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub ended_at_ms: i64,
    /// The most who watched at a time.
    #[prost(uint32, tag = "5")]
    pub viewers_peak: u32,
    /// All viewers together, in seconds.
    #[prost(uint64, tag = "6")]
    pub watched_s: u64,
}

/// Recording ready.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RecordingReady {
    /// Recording's id.
    #[prost(bytes = "vec", tag = "1")]
    pub recording_id: Vec<u8>,
    /// Stream's id; empty when it is gone.
    #[prost(bytes = "vec", tag = "2")]
    pub stream_id: Vec<u8>,
    /// Owner's id.
    #[prost(bytes = "vec", tag = "3")]
    pub owner_id: Vec<u8>,
    /// Title.
    #[prost(string, tag = "4")]
    pub title: String,
    /// Duration in milliseconds.
    #[prost(uint64, tag = "5")]
    pub duration_ms: u64,
    /// Size bytes.
    #[prost(uint64, tag = "6")]
    pub size_bytes: u64,
    /// Where it is played, below the address of the engine.
    #[prost(string, tag = "7")]
    pub playback_path: String,
    /// When its broadcast started, in milliseconds since 1970.
    #[prost(int64, tag = "8")]
    pub started_at_ms: i64,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "9")]
    pub at_ms: i64,
}
