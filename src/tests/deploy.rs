//! The files of `deploy/` speak of things the engine has.

use std::collections::BTreeSet;
use std::path::Path;

use nova::config::{self, Source};
use nova::telemetry::metrics;

/// An alert over a metric that no longer exists never fires, and nobody notices.
#[test]
fn alerts_and_dashboards_ask_only_for_metrics_there_are() {
    for file in ["deploy/prometheus/alerts.yml", "deploy/grafana/nova.json"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file);
        let asked = metric_names(&text);
        assert!(asked.contains("nova_http_requests_total"), "{file}: no metric was recognised");
        let unknown: Vec<_> = asked.iter().filter(|name| !metrics::NAMES.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "{file} asks for metrics the engine does not have: {unknown:?}");
    }
}

/// The example names every option, is accepted when its comment signs are taken away, and shows the real defaults.
#[test]
fn the_example_configuration_is_complete_and_true() {
    let example = include_str!("../../deploy/nova.toml");
    let uncommented: String = example
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)).unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let shown: toml::Table = uncommented.parse().expect("the example is TOML");

    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), &uncommented).expect("written");
    let path = file.path().to_str().expect("a path in UTF-8");
    config::parse(["nova", "config", "check", "--config", path]).expect("the engine accepts the example");

    let (_, options) = config::parse(["nova", "config", "check"]).expect("the defaults are accepted");
    for option in options.iter().filter(|option| option.name != "config") {
        let example = shown.get(&option.name).unwrap_or_else(|| panic!("`{}` is not shown", option.name));
        if option.source == Source::Default && option.value != "unset" {
            let example = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
            assert_eq!(example, option.value, "`{}`: shown and real default", option.name);
        }
    }
}

/// The words of a text that begin with `nova_`, histograms by their own name.
fn metric_names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("nova_"))
        .map(|word| {
            ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word)
        })
        .map(str::to_owned)
        .collect()
}
