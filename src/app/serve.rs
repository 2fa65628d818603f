//! `voicebridge serve`: a node, from its configuration to its orderly end.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::cli::ConfigFile;
use super::node::Node;
use crate::config::Config;

/// Runs until SIGTERM or SIGINT and the end of the drain.
pub(super) fn run(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = super::load(file)?;
    super::log::start(config.log.format, std::env::var("RUST_LOG").ok().as_deref());
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = super::runtime()?;
    let served = runtime.block_on(serve(config, file));
    // Prompts that are still being encoded are no reason to keep the next process waiting.
    runtime.shutdown_background();
    served?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config, file: &ConfigFile) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("listening for signals")?;
    let node = Node::start(&config).await?;
    tracing::info!(http = %config.http.listen, "ready");
    let mut running = config;
    while signals.next().await == Wanted::Reload {
        match super::load(file) {
            Ok(written) => running = node.reload(running.reload(written)).await,
            Err(errors) => tracing::warn!("the configuration was not reloaded:\n{errors}"),
        }
    }
    tracing::info!(
        seconds = running.node.drain_timeout.as_secs(),
        "draining: no new calls, waiting for those that are up"
    );
    tokio::select! {
        () = node.drained() => {}
        () = tokio::time::sleep(running.node.drain_timeout) => tracing::info!("the time to drain is over, ending the calls that are left"),
        () = signals.end() => tracing::info!("told twice, ending now"),
    }
    node.stop().await;
    tracing::info!("stopped");
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Reload,
    End,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.hangup.recv() => Wanted::Reload,
            _ = self.terminate.recv() => Wanted::End,
            _ = self.interrupt.recv() => Wanted::End,
        }
    }

    async fn end(&mut self) {
        while self.next().await == Wanted::Reload {}
    }
}
