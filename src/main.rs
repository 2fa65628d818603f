//! Arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;
use voicebridge::app;

fn main() -> ExitCode {
    match app::run(app::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("voicebridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}
