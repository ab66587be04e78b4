//! From a command line, the environment and a file to one struct, and the words for what cannot be used.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches};

use super::Config;
use crate::cli::Cli;

/// Why the configuration cannot be used; each prints as one sentence that says what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` cannot be read.
    #[error("cannot read the configuration file {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {path} is not valid TOML: {message}", path = path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// The file has a key the engine does not know.
    #[error("the configuration file {path} has the unknown key `{key}`{hint}", path = path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// `; did you mean …?`, or where to read the list.
        hint: String,
    },
    /// A key has a value of a shape no option takes.
    #[error("the key `{key}` of {path} must be a string, a number, a boolean or a list of those", path = path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A flag, a variable or a value was refused; the words are clap's.
    #[error("{0}")]
    Refused(#[from] clap::Error),
}

/// One option as it will be used, for printing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The option's name, as a TOML key.
    pub name: String,
    /// Its value; secrets read `set`.
    pub value: String,
    /// Where the value came from.
    pub source: Source,
}

/// Where an option's value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A command-line flag.
    Flag,
    /// An environment variable.
    Environment,
    /// The TOML file.
    File,
    /// Built in.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Flag => "flag",
            Source::Environment => "environment",
            Source::File => "file",
            Source::Default => "default",
        })
    }
}

/// Parses a command line together with the environment and the configuration file it names.
///
/// Returns the parsed command line and the settings of the [`Config`] in it.
pub fn parse(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<(Cli, Vec<Setting>), ConfigError> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let file = match config_path(&args) {
        Some(path) => read_file(&path)?,
        None => BTreeMap::new(),
    };
    let matches = with_file(Cli::command(), &file).try_get_matches_from(args)?;
    let cli = Cli::from_arg_matches(&matches)?;
    Ok((cli, settings(&matches, &file)))
}

/// Finds `--config` before anything else is judged: the file supplies the defaults of the real parse.
fn config_path(args: &[OsString]) -> Option<PathBuf> {
    let mut path = std::env::var_os("NOVA_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--config" {
            path = rest.next().map(PathBuf::from);
        } else if let Some(value) = arg.to_str().and_then(|arg| arg.strip_prefix("--config=")) {
            path = Some(PathBuf::from(value));
        }
    }
    path
}

/// Reads the file into option name → values; refuses keys no option has.
fn read_file(path: &Path) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::NotToml {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let known = option_names();
    let mut values = BTreeMap::new();
    for (key, value) in table {
        if !known.contains(&key) {
            return Err(ConfigError::UnknownKey { path: path.to_owned(), hint: hint(&key, &known), key });
        }
        let scalar = |value: &toml::Value| match value {
            toml::Value::String(text) => Some(text.clone()),
            toml::Value::Integer(number) => Some(number.to_string()),
            toml::Value::Float(number) => Some(number.to_string()),
            toml::Value::Boolean(flag) => Some(flag.to_string()),
            _ => None,
        };
        let list = match &value {
            toml::Value::Array(items) => items.iter().map(scalar).collect::<Option<Vec<_>>>(),
            single => scalar(single).map(|text| vec![text]),
        };
        let list = list.ok_or_else(|| ConfigError::WrongShape { path: path.to_owned(), key: key.clone() })?;
        values.insert(key, list);
    }
    Ok(values)
}

/// The names of all options of [`Config`], except the file itself.
pub fn option_names() -> Vec<String> {
    let command = Config::augment_args(clap::Command::new("nova"));
    let names = command.get_arguments().map(|arg| arg.get_id().to_string());
    names.filter(|name| name != "config").collect()
}

fn hint(key: &str, known: &[String]) -> String {
    let nearest = known.iter().min_by_key(|name| edit_distance(key, name));
    match nearest {
        Some(name) if edit_distance(key, name) <= 1 + name.len() / 3 => format!("; did you mean `{name}`?"),
        _ => "; `nova serve --help` lists them all".to_owned(),
    }
}

/// Levenshtein distance in bytes.
pub(super) fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let replace = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = replace.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

/// Makes the file's values the defaults of the options they name, in every subcommand that takes them.
fn with_file(command: clap::Command, file: &BTreeMap<String, Vec<String>>) -> clap::Command {
    let command = command.mut_args(|arg| match file.get(arg.get_id().as_str()) {
        Some(values) => arg.default_values(values.clone()),
        None => arg,
    });
    command.mut_subcommands(|subcommand| with_file(subcommand, file))
}

fn settings(matches: &ArgMatches, file: &BTreeMap<String, Vec<String>>) -> Vec<Setting> {
    let mut leaf = matches;
    while let Some((_, inner)) = leaf.subcommand() {
        leaf = inner;
    }
    let command = Config::augment_args(clap::Command::new("nova"));
    let mut settings = Vec::new();
    for arg in command.get_arguments() {
        let name = arg.get_id().as_str();
        let Ok(values) = leaf.try_get_raw(name) else { continue };
        let source = match leaf.value_source(name) {
            Some(ValueSource::CommandLine) => Source::Flag,
            Some(ValueSource::EnvVariable) => Source::Environment,
            _ if file.contains_key(name) => Source::File,
            _ => Source::Default,
        };
        // What no help names is told where somebody has set it.
        if arg.is_hide_set() && source == Source::Default {
            continue;
        }
        let value = match values {
            None => "unset".to_owned(),
            Some(_) if arg.is_hide_env_values_set() => "set".to_owned(),
            Some(values) => values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(","),
        };
        settings.push(Setting { name: name.to_owned(), value, source });
    }
    settings
}
