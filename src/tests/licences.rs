//! The licences of everything that is compiled into the engine or its tests.
//!
//! Asks `cargo metadata` for the dependencies on the platforms we ship for, and judges each SPDX expression.

use std::process::Command;

/// Permissive licences, and MPL-2.0, whose copyleft ends at its own files.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    // Permissive, and asks for no notice in binaries; `redis` hashes with `xxhash-rust`.
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Zlib",
];

const PLATFORMS: &[&str] = &["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

#[test]
fn every_dependency_may_be_shipped() {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--format-version=1", "--locked"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    for platform in PLATFORMS {
        cargo.args(["--filter-platform", platform]);
    }
    let output = cargo.output().expect("cargo runs, since it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");

    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    assert!(packages.iter().any(|package| package["name"] == "actix-web"), "the list is not ours");
    let refused: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or_default();
            let reason = permitted(licence).err()?;
            Some(format!("{} {}: {reason}", package["name"], package["version"]))
        })
        .collect();
    assert!(refused.is_empty(), "these dependencies may not be shipped:\n{}", refused.join("\n"));
}

#[test]
fn a_choice_needs_one_permissive_side_and_a_sum_needs_both() {
    for fine in [
        "MIT",
        "MIT/Apache-2.0",
        "Apache-2.0 / MIT",
        "MIT OR GPL-3.0-only",
        "GPL-3.0-or-later OR (MIT AND Unicode-3.0)",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
    ] {
        assert_eq!(permitted(fine), Ok(()), "{fine}");
    }
    for refused in [
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "(MIT OR Apache-2.0) AND AGPL-3.0-only",
        "GPL-3.0-only AND MIT OR LGPL-2.1-only",
        "GPL-2.0-only WITH Classpath-exception-2.0",
        "MIT WITH LLVM-exception",
        "ISC AND (Apache-2.0 OR ISC) AND OpenSSL",
        "SSPL-1.0 OR BUSL-1.1",
        "mit",
        "",
        "MIT OR",
        "(MIT",
        "MIT)",
        "MIT Apache-2.0",
        "OR MIT",
        "MIT WITH",
    ] {
        assert!(permitted(refused).is_err(), "{refused:?} passed");
    }
}

/// Whether an SPDX expression (also in cargo's old form with `/`) leaves a way to use the work under [`ALLOWED`]
/// licences alone; else says why not.
fn permitted(expression: &str) -> Result<(), String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = choice(&mut words).map_err(|what| format!("`{expression}` {what}"))?;
    match words.next() {
        Some(word) => Err(format!("`{expression}` cannot be read at `{word}`")),
        None if verdict => Ok(()),
        None => Err(format!("`{expression}` is not among the permitted licences")),
    }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `OR` binds weakest.
fn choice(words: &mut Words<'_>) -> Result<bool, &'static str> {
    let mut verdict = sum(words)?;
    while words.next_if_eq(&"OR").is_some() {
        verdict |= sum(words)?;
    }
    Ok(verdict)
}

fn sum(words: &mut Words<'_>) -> Result<bool, &'static str> {
    let mut verdict = licence(words)?;
    while words.next_if_eq(&"AND").is_some() {
        verdict &= licence(words)?;
    }
    Ok(verdict)
}

fn licence(words: &mut Words<'_>) -> Result<bool, &'static str> {
    match words.next() {
        None => Err("names no licence"),
        Some("(") => {
            let verdict = choice(words)?;
            words.next_if_eq(&")").map(|_| verdict).ok_or("lacks a closing parenthesis")
        }
        Some("OR" | "AND" | "WITH" | ")") => Err("lacks a licence beside an operator"),
        Some(name) if words.next_if_eq(&"WITH").is_some() => {
            let exception = words.next().ok_or("lacks the name of an exception")?;
            Ok(ALLOWED.contains(&format!("{name} WITH {exception}").as_str()))
        }
        Some(name) => Ok(ALLOWED.contains(&name)),
    }
}
