//! Object storage: what is too large for PostgreSQL, as files below the data directory or in a bucket of an S3-compatible service.
//!
//! An object is written whole or not at all (a file gets its name when its bytes are on disk), is never changed afterwards, and is
//! found by a path of lowercase words. Nothing here is on the way of live media: who writes waits in a task of its own, with a time
//! limit, and tries again.
//!
//! `object_store` does the talking; files are read and written on blocking threads. The credentials for S3 come from where every tool
//! of that world reads them: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, web identities and instance
//! profiles.

use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutPayload,
    RetryConfig,
};
use tokio::time::timeout;
use url::Url;

/// How long one request to the store may take; an upload that takes longer is tried anew by whoever wants it.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection to S3 may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Objects told of one folder at most: a recording of a day has a tenth of it.
const LISTED_MAX: usize = 500_000;
/// Objects deleted at a time.
const DELETES_AT_ONCE: usize = 16;

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Below this directory.
    Disk(PathBuf),
    /// In this bucket, below this prefix, which may be empty.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// What all names in it begin with.
        prefix: String,
    },
}

impl Place {
    /// Reads `file:///path` or `s3://bucket/prefix`.
    pub fn parse(text: &str) -> Result<Place, String> {
        let words = "it must look like file:///var/lib/nova/objects or s3://bucket/prefix";
        let url = Url::parse(text).map_err(|_| words.to_owned())?;
        match url.scheme() {
            "file" => Ok(Place::Disk(url.to_file_path().map_err(|()| words.to_owned())?)),
            "s3" => match url.host_str() {
                Some(bucket) if url.query().is_none() && url.username().is_empty() => Ok(Place::S3 {
                    bucket: bucket.to_owned(),
                    prefix: url.path().trim_matches('/').to_owned(),
                }),
                _ => Err(words.to_owned()),
            },
            _ => Err(words.to_owned()),
        }
    }
}

/// Why objects cannot be kept; each prints as one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsRefusal {
    /// The directory cannot be made.
    #[error("cannot create the directory for objects {path}: {source}; choose another with NOVA_OBJECTS", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The settings do not make a store.
    #[error("the object store cannot be used: {0}; check NOVA_OBJECTS and the AWS variables")]
    Settings(#[source] object_store::Error),
}

/// Why an object was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is none under this path.
    #[error("there is no such object")]
    NotFound,
    /// The store is away, full, too slow, or refuses us.
    #[error("the object store is unavailable: {reason}")]
    Unavailable {
        /// What it said, for logs.
        reason: String,
    },
}

impl From<object_store::Error> for ObjectError {
    fn from(error: object_store::Error) -> ObjectError {
        match error {
            object_store::Error::NotFound { .. } => ObjectError::NotFound,
            error => ObjectError::Unavailable { reason: error.to_string() },
        }
    }
}

/// An object, or a part of it, on its way.
pub struct Object {
    /// Bytes of the whole object.
    pub size: u64,
    /// Which of them come.
    pub range: Range<u64>,
    /// The bytes.
    pub body: BoxStream<'static, Result<Bytes, ObjectError>>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("size", &self.size).field("range", &self.range).finish_non_exhaustive()
    }
}

/// Which bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// From the first to the last, this one not included.
    Between(u64, u64),
    /// From here to the end.
    From(u64),
    /// The last so many.
    Last(u64),
}

/// The object store. Clones share it.
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Objects {
    /// Opens the store at `place`. S3 is not asked: a bucket that is away is met when it is needed, and tried again then. `endpoint` is
    /// the address of an S3-compatible service other than Amazon's.
    pub fn open(place: &Place, endpoint: Option<&str>) -> Result<Objects, ObjectsRefusal> {
        match place {
            Place::Disk(path) => Objects::on_disk(path),
            Place::S3 { bucket, prefix } => Objects::in_bucket(bucket, prefix, endpoint),
        }
    }

    fn on_disk(path: &FilePath) -> Result<Objects, ObjectsRefusal> {
        std::fs::create_dir_all(path)
            .map_err(|source| ObjectsRefusal::Directory { path: path.to_owned(), source })?;
        // An empty folder is of no use to anybody, and neither is a name whose bytes a power cut has taken.
        let store = LocalFileSystem::new_with_prefix(path).map_err(ObjectsRefusal::Settings)?;
        let store = store.with_automatic_cleanup(true).with_fsync(true);
        Ok(Objects { store: Arc::new(store), prefix: String::new() })
    }

    fn in_bucket(bucket: &str, prefix: &str, endpoint: Option<&str>) -> Result<Objects, ObjectsRefusal> {
        let options = ClientOptions::new().with_timeout(REQUEST_LIMIT).with_connect_timeout(CONNECT_LIMIT);
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: 3, retry_timeout: REQUEST_LIMIT };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_retry(retry)
            .with_client_options(options);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        let store = builder.build().map_err(ObjectsRefusal::Settings)?;
        Ok(Objects { store: Arc::new(store), prefix: prefix.to_owned() })
    }

    fn path(&self, path: &str) -> Path {
        match self.prefix.as_str() {
            "" => Path::from(path),
            prefix => Path::from(format!("{prefix}/{path}")),
        }
    }

    /// Writes an object of several pieces, whole or not at all.
    pub async fn put(&self, path: &str, pieces: Vec<Bytes>) -> Result<(), ObjectError> {
        let payload = PutPayload::from_iter(pieces);
        within(async { Ok(self.store.put(&self.path(path), payload).await.map(drop)?) }).await
    }

    /// Reads an object, or some bytes of it.
    pub async fn get(&self, path: &str, span: Option<Span>) -> Result<Object, ObjectError> {
        let range = span.map(|span| match span {
            Span::Between(from, to) => GetRange::Bounded(from..to),
            Span::From(from) => GetRange::Offset(from),
            Span::Last(count) => GetRange::Suffix(count),
        });
        let options = GetOptions { range, ..GetOptions::default() };
        let got = within(async { Ok(self.store.get_opts(&self.path(path), options).await?) }).await?;
        let (size, range) = (got.meta.size, got.range.clone());
        Ok(Object { size, range, body: got.into_stream().map_err(ObjectError::from).boxed() })
    }

    /// Reads a small object whole.
    pub async fn read(&self, path: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        within(async {
            let got = self.store.get(&self.path(path)).await?;
            if got.meta.size > bytes_max {
                return Err(ObjectError::Unavailable {
                    reason: format!("an object of {} bytes", got.meta.size),
                });
            }
            Ok(got.bytes().await?)
        })
        .await
    }

    /// Names and bytes of the objects in a folder, in no order; those of folders in it are left out.
    pub async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        let folder = self.path(folder);
        let mut listed = self.store.list(Some(&folder)).take(LISTED_MAX);
        let mut found = Vec::new();
        while let Some(object) = within(async { Ok(listed.try_next().await?) }).await? {
            let mut rest = object.location.prefix_match(&folder).into_iter().flatten();
            if let (Some(name), None) = (rest.next(), rest.next()) {
                found.push((name.as_ref().to_owned(), object.size));
            }
        }
        Ok(found)
    }

    /// Deletes everything below a folder. Again after a failure, it deletes the rest.
    pub async fn delete_all(&self, folder: &str) -> Result<(), ObjectError> {
        let folder = self.path(folder);
        let found = self.store.list(Some(&folder)).map_ok(|object| object.location);
        let deleted =
            found.map_err(ObjectError::from).try_for_each_concurrent(DELETES_AT_ONCE, async |path| {
                match within(async { Ok(self.store.delete(&path).await?) }).await {
                    Ok(()) | Err(ObjectError::NotFound) => Ok(()),
                    Err(error) => Err(error),
                }
            });
        deleted.await
    }
}

async fn within<T>(work: impl Future<Output = Result<T, ObjectError>>) -> Result<T, ObjectError> {
    let late = || ObjectError::Unavailable { reason: "no answer in time".to_owned() };
    timeout(REQUEST_LIMIT, work).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_directories_or_buckets() {
        assert_eq!(Place::parse("file:///var/nova"), Ok(Place::Disk("/var/nova".into())));
        let s3 = |bucket: &str, prefix: &str| Place::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!(Place::parse("s3://films"), Ok(s3("films", "")));
        assert_eq!(Place::parse("s3://films/nova/eu/"), Ok(s3("films", "nova/eu")));
        for odd in
            ["", "/var/nova", "s3://", "gs://films", "file://host/x", "s3://key@films", "s3://films?x=1"]
        {
            assert!(Place::parse(odd).is_err(), "{odd}");
        }
    }

    #[tokio::test]
    async fn what_is_put_is_read_listed_and_deleted() {
        let dir = tempfile::tempdir().expect("a directory");
        let objects = Objects::open(&Place::Disk(dir.path().join("new")), None).expect("opens");
        let pieces = vec![Bytes::from_static(b"hello "), Bytes::from_static(b"world")];
        objects.put("films/one/a.m4s", pieces).await.expect("written");
        objects.put("films/one/deep/b.m4s", vec![Bytes::from_static(b"b")]).await.expect("written");
        objects.put("films/onetwo/c.m4s", vec![]).await.expect("written");
        assert_eq!(objects.read("films/one/a.m4s", 100).await.expect("there"), "hello world");
        assert!(objects.read("films/one/a.m4s", 3).await.is_err(), "larger than wanted");
        let part = objects.get("films/one/a.m4s", Some(Span::Last(5))).await.expect("there");
        assert_eq!((part.size, part.range), (11, 6..11));
        let bytes: Vec<Bytes> = part.body.try_collect().await.expect("bytes");
        assert_eq!(bytes.concat(), b"world");
        assert_eq!(objects.list("films/one").await.expect("listed"), [("a.m4s".to_owned(), 11)]);
        objects.delete_all("films/one").await.expect("deleted");
        assert_eq!(objects.list("films/one").await.expect("listed"), []);
        assert!(matches!(objects.read("films/one/a.m4s", 100).await, Err(ObjectError::NotFound)));
        assert_eq!(
            objects.list("films/onetwo").await.expect("listed").len(),
            1,
            "a neighbour with a longer name"
        );
    }
}
