//! What is too large for PostgreSQL, and where it is kept.

use clap::Args;

use super::values::parse_origin_url;
use crate::objects::Place;

/// What is too large for PostgreSQL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Object storage")]
pub struct ObjectsConfig {
    /// Where recordings are kept: `file:///path`, or `s3://bucket/prefix` with the usual AWS variables; default: below the data
    /// directory. Several nodes need the same place.
    #[arg(long, env = "NOVA_OBJECTS", value_name = "URL", value_parser = Place::parse)]
    pub objects: Option<Place>,

    /// Address of the S3-compatible service, when it is not Amazon's.
    #[arg(long, env = "NOVA_OBJECTS_ENDPOINT", value_name = "URL", value_parser = parse_origin_url)]
    pub objects_endpoint: Option<String>,
}
