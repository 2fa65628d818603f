//! The only place that knows all: the command line, build order, drain, shutdown order.

mod check;
pub mod cli;
mod home;
mod keys;
mod log;
mod node;
mod serve;
mod store;
mod store_copy;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::config::{Config, ConfigErrors, PromptsConfig};
use crate::probe::ProbeOptions;
use crate::prompts::PromptFolders;
use cli::{Cli, Command, ConfigFile};

/// Does what the command line says.
///
/// # Errors
/// What went wrong, in words for whoever typed it.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(file) => serve::run(&file),
        Command::Check(file) => check::run(&file),
        Command::Key(args) => keys::run(&args),
        Command::Ctl(_) => {
            anyhow::bail!("ctl is not supported yet; the API and /metrics show what runs")
        }
        Command::Probe(args) => probe(&ProbeOptions {
            uri: args.uri,
            pin: args.pin,
            json: args.json,
        }),
        Command::Store(args) => store_copy::run(&args),
        Command::Openapi => print_openapi(),
    }
}

/// Exit code 1 where anything was wrong.
fn probe(options: &ProbeOptions) -> anyhow::Result<ExitCode> {
    let result = crate::probe::run(options)?;
    say(&if options.json {
        serde_json::to_string(&result)?
    } else {
        result.in_words()
    })?;
    Ok(if result.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The configuration: the file of `--config`, and the environment over it.
fn load(file: &ConfigFile) -> Result<Config, ConfigErrors> {
    Config::load(file.file.as_deref(), std::env::vars_os())
}

/// Where recordings are looked for. The operator's own folder may be missing unless he named one.
fn prompt_folders(config: &Config) -> PromptFolders {
    let own = &config.prompts.folder;
    let named = config.prompts != PromptsConfig::default_in(&config.node.data_dir);
    PromptFolders {
        own: (named || own.exists()).then(|| own.clone()),
        ..PromptFolders::default()
    }
}

/// The runtime for everything but media.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .enable_all()
        .build()
        .context("starting the control threads")
}

fn print_openapi() -> anyhow::Result<ExitCode> {
    let document = crate::api::openapi().to_pretty_json();
    say(&document.context("writing the OpenAPI document")?)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a line to standard output. Who reads it may have had enough, as `head` does.
fn say(line: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Signalling needs one, the store and the API another.
const CONTROL_THREADS: usize = 2;
