//! Puts the web console into the program.
//!
//! The bundle in `src/console/dist` is compressed here once, so that serving it costs a copy and no more. When the
//! bundle is missing or was made from other sources than those that lie here, it is made now if `npm` is on the
//! machine: a fresh checkout builds with a plain `cargo build`, and an old bundle can never slip into a new engine.
//! Without `npm` the build ends with one sentence that says what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use sha2::{Digest, Sha256};

/// Brotli's highest quality: paid once per build, by a few hundred kilobytes.
const BROTLI_QUALITY: i32 = 11;
/// Brotli's window as a power of two; 22 (4 MiB) holds every file of the console.
const BROTLI_WINDOW_LOG2: i32 = 22;

fn main() -> ExitCode {
    match embed_console() {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            println!("cargo::error={}", sentence.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn embed_console() -> Result<(), String> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo did not name the package")?);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo did not name the output folder")?);
    let console = root.join("src/console");

    println!("cargo::rerun-if-changed=build.rs");
    // `sqlx::migrate!` embeds them and cannot say so itself.
    println!("cargo::rerun-if-changed={}", root.join("migrations").display());
    for entry in entries(&console)? {
        // Cargo looks into folders, so the ones the bundler writes to must not be among them.
        println!("cargo::rerun-if-changed={}", entry.display());
    }

    ensure_bundle(&console)?;
    let table = embed(&console.join("dist"), &out)?;
    write(&out.join("console_files.rs"), table.as_bytes())
}

/// What lies in the console's folder and belongs to the sources: not the packages, the bundle or hidden files.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| told(folder, &e))? {
        let path = entry.map_err(|e| told(folder, &e))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with('.') && name != "node_modules" && name != "dist" {
            found.push(path);
        }
    }
    Ok(found)
}

/// SHA-256 over `path NUL length NUL bytes` of every source file in the order of their paths: the sum that
/// `build.mjs` leaves beside the bundle.
fn sources_sum(console: &Path) -> Result<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![console.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(console).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                files.insert(name, fs::read(&path).map_err(|e| told(&path, &e))?);
            }
        }
    }
    let mut sum = Sha256::new();
    for (name, bytes) in files {
        sum.update(format!("{name}\0{}\0", bytes.len()));
        sum.update(bytes);
    }
    Ok(hex(&sum.finalize()))
}

/// Leaves a bundle of the present sources in `dist`, or says what is in the way.
fn ensure_bundle(console: &Path) -> Result<(), String> {
    // Two builds with different target folders may meet here; the second finds the first one's work done.
    let manifest = console.join("package.json");
    let turn = File::open(&manifest).map_err(|e| told(&manifest, &e))?;
    turn.lock().map_err(|e| told(&manifest, &e))?;

    let wanted = sources_sum(console)?;
    let made_from = fs::read_to_string(console.join("dist/sources.sha256")).unwrap_or_default();
    if made_from.trim() == wanted {
        return Ok(());
    }
    if Command::new("npm").arg("--version").output().is_err() {
        let state = if made_from.is_empty() { "is not built" } else { "was built from other sources" };
        return Err(format!(
            "the web console {state} and npm is not on this machine: run `make console`, which installs what it needs, then build again"
        ));
    }
    let lock = console.join("package-lock.json");
    let installed = console.join("node_modules/.nova-lock");
    let locked = fs::read(&lock).map_err(|e| told(&lock, &e))?;
    if fs::read(&installed).ok().as_deref() != Some(&locked) {
        npm(console, &["ci", "--no-audit", "--no-fund", "--loglevel=error"])?;
        write(&installed, &locked)?;
    }
    npm(console, &["run", "--silent", "build"])
}

fn npm(console: &Path, arguments: &[&str]) -> Result<(), String> {
    let run = Command::new("npm").args(arguments).current_dir(console).output();
    let run = run.map_err(|e| format!("npm could not be started: {e}"))?;
    if run.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&run.stderr);
    let last: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = last.iter().rev().take(6).rev().copied().collect::<Vec<_>>().join(" / ");
    Err(format!("the web console could not be built: `npm {}` failed: {last}", arguments.join(" ")))
}

/// Compresses every file of the bundle into the output folder and writes the table that names them.
fn embed(dist: &Path, out: &Path) -> Result<String, String> {
    let mut table = String::from("&[\n");
    let mut names = vec!["index.html".to_owned(), "docs.html".to_owned()];
    let assets = dist.join("assets");
    for entry in fs::read_dir(&assets).map_err(|e| told(&assets, &e))? {
        let name = entry.map_err(|e| told(&assets, &e))?.file_name();
        names.push(format!("assets/{}", name.to_string_lossy()));
    }
    names.sort();
    for name in names {
        let path = dist.join(&name);
        let plain = fs::read(&path).map_err(|e| told(&path, &e))?;
        let etag = hex(&Sha256::digest(&plain)).chars().take(20).collect::<String>();
        let mime = mime_of(&name)?;
        let stem = out.join(format!("console-{etag}"));
        let (brotli, gzip) = (brotli(&plain), gzip(&plain));
        let brotli = brotli.map_err(|e| told(&path, &e))?;
        let gzip = gzip.map_err(|e| told(&path, &e))?;
        let mut line = format!("File {{ path: {name:?}, mime: {mime:?}, etag: {etag:?}");
        for (field, ending, bytes) in
            [("plain", "plain", &plain), ("gzip", "gz", &gzip), ("brotli", "br", &brotli)]
        {
            let file = stem.with_extension(ending);
            write(&file, bytes)?;
            let _ = write!(line, ", {field}: include_bytes!({:?})", file.display().to_string());
        }
        let _ = writeln!(table, "    {line} }},");
    }
    table.push_str("]\n");
    Ok(table)
}

fn mime_of(name: &str) -> Result<&'static str, String> {
    match name.rsplit('.').next() {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("svg") => Ok("image/svg+xml"),
        Some("txt") => Ok("text/plain; charset=utf-8"),
        _ => Err(format!("build.rs has no content type for the console's file {name}: name it in `mime_of`")),
    }
}

fn brotli(plain: &[u8]) -> io::Result<Vec<u8>> {
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: BROTLI_QUALITY,
        lgwin: BROTLI_WINDOW_LOG2,
        size_hint: plain.len(),
        ..Default::default()
    };
    let mut packed = Vec::new();
    brotli::BrotliCompress(&mut &plain[..], &mut packed, &parameters)?;
    Ok(packed)
}

fn gzip(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(plain)?;
    packer.finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|e| told(path, &e))
}

fn told(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
