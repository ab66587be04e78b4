//! The program: parse, build, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;

use nova::app::App;
use nova::cli::{Cli, Command, ConfigCommand};
use nova::config::{self, Config, ConfigError, Setting, Source, TelemetryConfig};
use nova::telemetry::Telemetry;
use tokio::signal::unix::{SignalKind, signal};

/// Sockets come and go in great numbers with small buffers of few sizes, which this allocator packs best.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The command line or the configuration cannot be used.
const EXIT_USAGE: u8 = 2;
/// The engine could not start, or could not go on.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    let (cli, settings) = match config::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(ConfigError::Refused(refused)) => {
            // `--help` and `--version` arrive here too and go to standard output.
            let shown = refused.print();
            return match refused.use_stderr() || shown.is_err() {
                true => ExitCode::from(EXIT_USAGE),
                false => ExitCode::SUCCESS,
            };
        }
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    match run(cli, &settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILURE, error.as_ref()),
    }
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    // Nothing can be done when standard error is gone; the exit code still tells.
    let _ = writeln!(std::io::stderr(), "nova: {error}");
    ExitCode::from(code)
}

fn run(cli: Cli, settings: &[Setting]) -> Result<(), Box<dyn std::error::Error>> {
    match cli.command {
        Command::Serve(config) => serve(*config, settings),
        Command::Config(ConfigCommand::Check(_)) => {
            let mut out = std::io::stdout().lock();
            for setting in settings {
                writeln!(out, "{} = {}  # {}", setting.name, setting.value, setting.source)?;
            }
            Ok(())
        }
        Command::Admin(command) => {
            let run = command.run();
            by_hand(&command.config().telemetry, settings, async { run.await.map_err(Into::into) })
        }
        Command::RankTrain(training) => {
            let run = training.run();
            by_hand(&training.config.telemetry, settings, async { run.await.map_err(Into::into) })
        }
        Command::Bench(command) => match command.run()? {
            true => Ok(()),
            false => Err("a promise was not kept; it stands above".into()),
        },
        Command::Torture(command) => match command.run()? {
            true => Ok(()),
            false => Err("what must not be was found; it stands above".into()),
        },
        Command::Openapi => {
            write!(std::io::stdout(), "{}", nova::rest::openapi::document())?;
            Ok(())
        }
    }
}

fn serve(config: Config, settings: &[Setting]) -> Result<(), Box<dyn std::error::Error>> {
    nova::app::use_ring();
    let telemetry = Telemetry::start(&config.telemetry)?;
    for setting in settings {
        tracing::info!(option = setting.name, value = setting.value, source = %setting.source, "configured");
    }
    let served = actix_rt::System::new().block_on(async {
        let stop = stop_signal()?;
        let app = App::build(config).await?;
        let mut out = std::io::stdout();
        writeln!(out, "{}", app.ready_line())?;
        out.flush()?;
        tracing::info!(url = app.engine().public_url(), "ready; the console is at this address");
        app.run_until(stop).await?;
        Ok(())
    });
    telemetry.flush();
    served
}

/// Results go to standard output, one line each; of the log only what went wrong is shown, unless the operator asked for more.
fn by_hand(
    telemetry: &TelemetryConfig,
    settings: &[Setting],
    run: impl Future<Output = Result<Vec<String>, Box<dyn std::error::Error>>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut telemetry = telemetry.clone();
    telemetry.otlp_endpoint = None;
    if settings.iter().any(|setting| setting.name == "log" && setting.source == Source::Default) {
        telemetry.log = "warn".to_owned();
    }
    let telemetry = Telemetry::start(&telemetry)?;
    let done = actix_rt::System::new().block_on(run);
    telemetry.flush();
    let mut out = std::io::stdout().lock();
    for line in done? {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// Resolves when the process is asked to end; asked a second time, it ends at once.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (asked, heard) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        let _ = asked.send(());
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::warn!("asked to stop a second time: ending without draining");
        std::process::exit(i32::from(EXIT_FAILURE));
    });
    Ok(async move {
        let _ = heard.await;
    })
}
