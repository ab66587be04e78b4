//! Learned models: a linear one is a small JSON file, read while the engine runs.
//!
//! ```json
//! { "format": 1, "name": "home-1764324000", "features": 1,
//!   "weights": { "age": -0.9, "likes": 0.4, "comments": 0.3, "rate": 0.7, "affinity": 1.1, "mutual": 0.2 } }
//! ```
//!
//! Files `NAME.json` lie in one folder; `home.json` orders ranked feeds, others wait for an experiment to name them. The folder is looked at
//! every two seconds. A file that is wrong is refused with a sentence in the log, and what was read from it before stays in use.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::features::{self, Features, NAMES};
use crate::telemetry::Metrics;

/// The model of everybody who is in no experiment.
pub const HOME: &str = "home";
/// A file is a name and six numbers.
const BYTES_MAX: u64 = 64 << 10;
/// Models that are kept; a folder with more is a mistake.
const MODELS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 64;
/// Scores stay comparable: six weights of this size add up to nothing near the end of `f64`.
const WEIGHT_MAX: f64 = 1e6;

/// A model as its file says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// The version of this shape: 1.
    pub format: u32,
    /// What pages say they were ordered by.
    pub name: String,
    /// The version of the features it was trained with.
    pub features: u32,
    /// A number for each feature, by name.
    pub weights: BTreeMap<String, f64>,
    /// What it was learned from; for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained: Option<Trained>,
}

/// What a model was learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// Visits it learned from.
    pub visits: usize,
    /// Later visits it was judged by.
    pub judged_by: usize,
    /// NDCG@20 of its order on those, 0 to 1.
    pub ndcg_at_20: f64,
    /// NDCG@20 of the newest first on the same.
    pub chronological_ndcg_at_20: f64,
}

/// Why a file is no model; each prints as a sentence.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ModelError {
    /// Not JSON of this shape.
    #[error("it is not a model: {0}")]
    Shape(String),
    /// Larger than any model.
    #[error("it has more than {BYTES_MAX} bytes, which no model has")]
    TooLarge,
    /// Another shape.
    #[error("its format is {0}, and this engine reads format 1")]
    Format(u32),
    /// Features this engine does not compute.
    #[error("it was trained with version {0} of the features, and this engine computes version {VERSION}; train it again with `nova rank-train`", VERSION = features::VERSION)]
    Features(u32),
    /// A name nobody can tell apart from others.
    #[error("its name must be 1 to {NAME_CHARS_MAX} lowercase letters, digits, `-` and `_`")]
    Name,
    /// A feature it says nothing about.
    #[error("it has no weight for the feature `{0}`")]
    Missing(&'static str),
    /// A feature there is not.
    #[error("it has a weight for `{}`, which is no feature", .0.escape_debug())]
    Unknown(String),
    /// A number nothing can be ordered by.
    #[error("its weight for `{0}` must be a number from -1,000,000 to 1,000,000")]
    Weight(&'static str),
    /// The file.
    #[error("it cannot be read: {0}")]
    Io(String),
}

/// A model that orders.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    name: String,
    weights: [f64; NAMES.len()],
}

impl Model {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`ModelError`], as one sentence.
    pub fn read(bytes: &[u8]) -> Result<Model, ModelError> {
        if bytes.len() as u64 > BYTES_MAX {
            return Err(ModelError::TooLarge);
        }
        let file: ModelFile =
            serde_json::from_slice(bytes).map_err(|error| ModelError::Shape(error.to_string()))?;
        if file.format != 1 {
            return Err(ModelError::Format(file.format));
        }
        if file.features != features::VERSION {
            return Err(ModelError::Features(file.features));
        }
        if !is_name(&file.name) {
            return Err(ModelError::Name);
        }
        if let Some(unknown) = file.weights.keys().find(|name| !NAMES.contains(&name.as_str())) {
            return Err(ModelError::Unknown(unknown.clone()));
        }
        let mut weights = [0.0; NAMES.len()];
        for (weight, name) in weights.iter_mut().zip(NAMES) {
            *weight = *file.weights.get(name).ok_or(ModelError::Missing(name))?;
            if !weight.is_finite() || weight.abs() > WEIGHT_MAX {
                return Err(ModelError::Weight(name));
            }
        }
        Ok(Model { name: file.name, weights })
    }

    /// With these weights, in the order of [`NAMES`].
    pub fn with_weights(name: impl Into<String>, weights: [f64; NAMES.len()]) -> Model {
        Model { name: name.into(), weights }
    }

    /// What pages say they were ordered by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The weights, in the order of [`NAMES`].
    pub fn weights(&self) -> [f64; NAMES.len()] {
        self.weights
    }

    /// How much a post is worth to its reader; finite.
    pub fn score(&self, features: &Features, now: OffsetDateTime) -> f64 {
        self.weights.iter().zip(features.values(now)).map(|(weight, value)| weight * value).sum()
    }

    /// What each feature adds to the score, in the order of [`NAMES`].
    pub fn parts(&self, features: &Features, now: OffsetDateTime) -> [f64; NAMES.len()] {
        let mut parts = features.values(now);
        parts.iter_mut().zip(self.weights).for_each(|(part, weight)| *part *= weight);
        parts
    }
}

/// Whether something may be the name of a model, an experiment or an arm.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// The models of a folder.
#[derive(Debug)]
pub struct Models {
    folder: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    models: HashMap<String, Arc<Model>>,
    /// What each file looked like when it was last read.
    seen: HashMap<String, (Option<SystemTime>, u64)>,
}

impl Models {
    /// Of a folder that need not be there; nothing is read yet.
    pub fn of(folder: PathBuf) -> Models {
        Models { folder, inner: Mutex::default() }
    }

    /// The model of this name.
    pub fn get(&self, slot: &str) -> Option<Arc<Model>> {
        self.lock().models.get(slot).cloned()
    }

    /// The model that calls itself so.
    pub fn called(&self, name: &str) -> Option<Arc<Model>> {
        self.lock().models.values().find(|model| model.name == name).cloned()
    }

    /// Reads what has changed; call it where files may be read. Says how many files were refused.
    pub fn look(&self, metrics: &Metrics) -> usize {
        let mut found = HashMap::new();
        // No folder is no model.
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let slot = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
            if path.extension().is_some_and(|kind| kind == "json")
                && is_name(&slot)
                && found.len() < MODELS_MAX
            {
                let looks =
                    entry.metadata().map(|about| (about.modified().ok(), about.len())).unwrap_or((None, 0));
                found.insert(slot, (path, looks));
            }
        }
        let mut refused = 0;
        for (slot, (path, looks)) in &found {
            if self.lock().seen.insert(slot.clone(), *looks) == Some(*looks) {
                continue;
            }
            match read_file(path) {
                Ok(model) => {
                    tracing::info!(file = %path.display(), model = model.name(), "a model for feeds was read");
                    self.lock().models.insert(slot.clone(), Arc::new(model));
                }
                Err(error) => {
                    refused += 1;
                    metrics.feed_models_refused.inc();
                    tracing::warn!(file = %path.display(), %error, "a model for feeds is refused; the one before stays");
                }
            }
        }
        let mut inner = self.lock();
        inner.seen.retain(|slot, _| found.contains_key(slot));
        inner.models.retain(|slot, _| found.contains_key(slot));
        refused
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_file(path: &Path) -> Result<Model, ModelError> {
    let io = |error: std::io::Error| ModelError::Io(error.to_string());
    if std::fs::metadata(path).map_err(io)?.len() > BYTES_MAX {
        return Err(ModelError::TooLarge);
    }
    Model::read(&std::fs::read(path).map_err(io)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(change: impl FnOnce(&mut serde_json::Value)) -> Result<Model, ModelError> {
        let weights: BTreeMap<_, _> = NAMES.iter().map(|name| (*name, 0.5)).collect();
        let mut file = json!({ "format": 1, "name": "home-1", "features": 1, "weights": weights });
        change(&mut file);
        Model::read(file.to_string().as_bytes())
    }

    #[test]
    fn a_wrong_file_is_refused_with_a_sentence() {
        assert_eq!(file(|_| {}).unwrap().name(), "home-1");
        assert_eq!(file(|file| file["format"] = json!(2)).unwrap_err(), ModelError::Format(2));
        assert_eq!(file(|file| file["features"] = json!(9)).unwrap_err(), ModelError::Features(9));
        assert_eq!(file(|file| file["name"] = json!("Home 1")).unwrap_err(), ModelError::Name);
        let odd = |file: &mut serde_json::Value| file["weights"]["wealth"] = json!(1);
        assert_eq!(file(odd).unwrap_err(), ModelError::Unknown("wealth".to_owned()));
        assert_eq!(file(|file| file["weights"]["age"] = json!(1e9)).unwrap_err(), ModelError::Weight("age"));
        let less = |file: &mut serde_json::Value| {
            file["weights"].as_object_mut().unwrap().remove("rate");
        };
        assert_eq!(file(less).unwrap_err(), ModelError::Missing("rate"));
        for text in ["", "{", "[]", "{\"format\":1}", "{\"format\":1,\"weights\":{\"age\":1e999}}"] {
            let error = Model::read(text.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("it is not a model: "), "{error}");
        }
        assert_eq!(Model::read(&vec![b' '; 1 << 20]), Err(ModelError::TooLarge));
    }

    #[test]
    fn a_folder_is_read_again_when_it_changes_and_a_wrong_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (models, metrics) = (Models::of(folder.path().to_owned()), Metrics::default());
        assert_eq!((models.look(&metrics), models.get(HOME)), (0, None));
        let put = |name: &str| {
            let weights: BTreeMap<_, _> = NAMES.iter().map(|name| (*name, 0.5)).collect();
            let file = json!({ "format": 1, "name": name, "features": 1, "weights": weights });
            std::fs::write(folder.path().join("home.json"), file.to_string()).unwrap();
        };
        put("first");
        std::fs::write(folder.path().join("notes.txt"), "x").unwrap();
        assert_eq!(models.look(&metrics), 0);
        assert_eq!(models.get(HOME).unwrap().name(), "first");
        put("second-one");
        models.look(&metrics);
        assert_eq!(models.get(HOME).unwrap().name(), "second-one");
        std::fs::write(folder.path().join("home.json"), "{ broken").unwrap();
        assert_eq!((models.look(&metrics), models.look(&metrics)), (1, 0), "it is said once");
        assert_eq!(models.get(HOME).unwrap().name(), "second-one");
        assert!(models.called("second-one").is_some());
        std::fs::remove_file(folder.path().join("home.json")).unwrap();
        models.look(&metrics);
        assert_eq!(models.get(HOME), None);
    }
}
