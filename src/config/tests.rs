use std::io::Write as _;

use super::*;
use crate::cli::Command;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn serve(args: &[&str]) -> Result<(Config, Vec<Setting>), ConfigError> {
    let (cli, settings) = parse(["nova", "serve"].iter().chain(args).copied())?;
    match cli.command {
        Command::Serve(config) => Ok((*config, settings)),
        other => panic!("parsed as {other:?}"),
    }
}

fn setting<'a>(settings: &'a [Setting], name: &str) -> &'a Setting {
    settings.iter().find(|setting| setting.name == name).expect("the option is listed")
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let file = file(
        "http_addr = \"127.0.0.1:7000\"\nworkers = 3\ncors_origins = [\"https://a.example\", \"https://b.example\"]\n",
    );
    let path = file.path().to_str().expect("utf-8").to_owned();
    let (config, settings) = serve(&["--config", &path, "--workers", "5"]).expect("parses");
    assert_eq!(config.http.http_addr.port(), 7000);
    assert_eq!(config.http.workers, Some(5));
    assert_eq!(config.http.cors_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(setting(&settings, "http_addr").source, Source::File);
    assert_eq!(setting(&settings, "workers").source, Source::Flag);
    assert_eq!(setting(&settings, "drain_s").source, Source::Default);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    let file = file("http_adr = \"127.0.0.1:7000\"\n");
    let error = serve(&["--config", file.path().to_str().expect("utf-8")]).expect_err("refused");
    assert!(
        error.to_string().ends_with("has the unknown key `http_adr`; did you mean `http_addr`?"),
        "{error}"
    );
}

#[test]
fn bounds_are_checked_while_parsing_also_from_the_file() {
    let file = file("drain_s = 31\n");
    let error = serve(&["--config", file.path().to_str().expect("utf-8")]).expect_err("refused");
    assert!(error.to_string().contains("31 is not in 1..=30"), "{error}");
}

#[test]
fn secrets_print_as_set() {
    let url = "postgres://nova:hunter2@db/nova";
    let (config, settings) = serve(&["--database-url", url]).expect("parses");
    assert_eq!(setting(&settings, "database_url").value, "set");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.database.database_url.as_ref().map(Secret::expose), Some(url));
}

#[test]
fn every_option_is_documented_and_has_a_variable() {
    let command = Config::augment_args(clap::Command::new("nova"));
    for arg in command.get_arguments() {
        assert!(arg.get_help().is_some(), "{} has no help", arg.get_id());
        assert!(arg.get_env().is_some(), "{} has no environment variable", arg.get_id());
        assert!(arg.get_long().is_some(), "{} has no flag", arg.get_id());
    }
}

#[test]
fn distance_counts_edits() {
    assert_eq!(reading::edit_distance("", "abc"), 3);
    assert_eq!(reading::edit_distance("kitten", "sitting"), 3);
    assert_eq!(reading::edit_distance("same", "same"), 0);
}
