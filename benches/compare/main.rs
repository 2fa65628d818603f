//! voicebridge beside its peers and beside the kernel's own price, in one run:
//! `cargo bench --bench compare`, or `make compare`.
//!
//! Each server runs on one core, called over SIP (Janus: its HTTP interface) and fed by one generator on another.
//! The servers of a scenario take turns, round after round, so that whatever else the machine does hits all.
//! Results are kept in `target/compare`; a scenario that is run again replaces its own.
#![allow(clippy::print_stdout, reason = "this is what the program is for")]

mod asterisk;
mod call;
mod chart;
mod delay;
mod floor;
mod front;
mod generator;
mod histogram;
mod janus;
mod report;
mod round;
mod scenario;
mod server;
#[path = "../sound/mod.rs"]
mod sound;
mod system;
mod voicebridge;
mod wire;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;

use crate::asterisk::Asterisk;
use crate::janus::Janus;
use crate::round::Found;
use crate::scenario::{Scenario, Sounds};
use crate::server::{Kind, SERVER_CORE};
use crate::voicebridge::Voicebridge;

/// Measures voicebridge, Asterisk's ConfBridge and Janus' AudioBridge under the same calls.
#[derive(Parser)]
#[command(name = "compare")]
struct Options {
    /// All scenarios; takes more than an hour
    #[arg(long)]
    full: bool,
    /// One short round of each
    #[arg(long)]
    quick: bool,
    /// Most rounds of anything
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that a round measures
    #[arg(long)]
    seconds: Option<u64>,
    /// Only scenarios whose names begin so; may be given more than once
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only servers whose names contain this; may be given more than once
    #[arg(long, value_name = "NAME")]
    server: Vec<String>,
    /// Leave scenarios alone that have results already
    #[arg(long)]
    resume: bool,
    /// Only tell the scenarios' names
    #[arg(long)]
    list: bool,
    /// Where performance.md and its pictures are written; nowhere if not given
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    /// Measure nothing, tell what was found before
    #[arg(long)]
    report: bool,
    /// Is the floor's process
    #[arg(long, hide = true)]
    floor: Option<String>,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(orders) = &options.floor {
        let orders = floor::Orders::parse(orders).context("unknown orders")?;
        return Ok(orders.obey()?);
    }
    let scenarios = Scenario::all();
    if options.list {
        scenarios
            .iter()
            .for_each(|s| println!("{:14} {}", s.name, s.about));
        return Ok(());
    }
    if !options.is_told_what_to_do() {
        println!("What shall be compared? --full, or --only NAME; --list tells the names");
        return Ok(());
    }
    // Ports and addresses are fixed: two at a time would hear each other.
    let _alone = TcpListener::bind(ALONE).context("another comparison is running")?;
    system::allow_many_sockets();
    let mut found = load().unwrap_or_default();
    if !options.report {
        let kinds = available(&options)?;
        system::stay_on(generator_core());
        for scenario in scenarios.iter().filter(|scenario| options.wants(scenario)) {
            let is_known = found.iter().any(|found| found.scenario == scenario.name);
            if !(options.resume && is_known) {
                run(scenario, &kinds, &options, &mut found)?;
            }
        }
    }
    println!("{}", report::table(&scenarios, &found));
    println!("Machine: {}", system::machine());
    if let Some(folder) = &options.write {
        report::write(folder, &scenarios, &found)?;
    }
    Ok(())
}

impl Options {
    /// Not so where cargo runs all benches.
    const fn is_told_what_to_do(&self) -> bool {
        self.full || self.quick || self.report || self.resume || !self.only.is_empty()
    }

    fn wants(&self, scenario: &Scenario) -> bool {
        self.only.is_empty()
            || self
                .only
                .iter()
                .any(|only| scenario.name.starts_with(only.as_str()))
    }

    fn wants_kind(&self, kind: Kind) -> bool {
        let name = kind.name().to_lowercase();
        self.server.is_empty()
            || self
                .server
                .iter()
                .any(|server| name.contains(&server.to_lowercase()))
    }
}

/// What can be measured on this machine.
fn available(options: &Options) -> anyhow::Result<Vec<Kind>> {
    let folder = tempfile::tempdir()?;
    let mut kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| options.wants_kind(*kind))
        .collect();
    let mut leave_out = |kind: Kind, why: &str| {
        if kinds.contains(&kind) {
            println!("{} is left out: {why}", kind.name());
            kinds.retain(|k| *k != kind);
        }
    };
    if !Voicebridge::knows_addresses(folder.path())? {
        leave_out(Kind::KnownAddresses, "this build doesn't know media.shared");
    }
    if let Err(error) = Asterisk::get() {
        leave_out(Kind::ConfBridge, &error.to_string());
        leave_out(Kind::ConfBridgeBuffered, &error.to_string());
        leave_out(Kind::Ari, &error.to_string());
        leave_out(Kind::DirectMedia, &error.to_string());
    }
    if !Janus::is_there() {
        leave_out(Kind::Janus, "it isn't installed (Debian's package janus)");
    }
    Ok(kinds)
}

/// All rounds of a scenario, all kinds in turn.
fn run(
    scenario: &Scenario,
    kinds: &[Kind],
    options: &Options,
    found: &mut Vec<Found>,
) -> anyhow::Result<()> {
    let kinds: Vec<Kind> = kinds
        .iter()
        .copied()
        .filter(|kind| scenario.kinds.contains(kind))
        .collect();
    let rounds = if options.quick { 1 } else { options.rounds };
    let shortened = options.quick.then_some(scenario.seconds.min(QUICK_SECONDS));
    let seconds = options.seconds.or(shortened).unwrap_or(scenario.seconds);
    let mut sounds = Sounds::default();
    round::prepare(scenario, &mut sounds);
    found.retain(|f| f.scenario != scenario.name || !kinds.contains(&f.kind));
    for number in 0..rounds {
        for &kind in kinds
            .iter()
            .filter(|kind| number < scenario.rounds_of(**kind, rounds))
        {
            match round::run(scenario, kind, seconds, &mut sounds) {
                Ok(result) => {
                    tell(&result);
                    found.push(result);
                    save(found)?;
                }
                Err(error) => println!("{} {}: {error:#}", scenario.name, kind.name()),
            }
        }
    }
    Ok(())
}

fn tell(found: &Found) {
    println!(
        "{} {}: {:.0} us{}, spacing p99 {:.2} ms (bare timer {:.2}, generator {:.2}), {} delays, lost {:.3} %, \
         missing {:.2} %, {} gaps, machine {:.0} % busy",
        found.scenario,
        found.kind.name(),
        found.cpu_us,
        found
            .front_us
            .map_or_else(String::new, |us| format!(" (Asterisk {us:.0})")),
        found.spacing[1],
        found.bare[1],
        found.generator,
        found.delays.len(),
        found.lost * 100.0,
        found.missing * 100.0,
        found.gaps,
        found.machine * 100.0,
    );
}

/// Any core but the server's.
fn generator_core() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (SERVER_CORE + 1) % cores
}

fn load() -> Option<Vec<Found>> {
    serde_json::from_slice(&fs::read(store()).ok()?).ok()
}

fn save(found: &[Found]) -> anyhow::Result<()> {
    let store = store();
    fs::create_dir_all(store.parent().context("a folder")?)?;
    Ok(fs::write(store, serde_json::to_vec(found)?)?)
}

fn store() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/compare/results.json")
}

const QUICK_SECONDS: u64 = 3;
/// Held while a comparison runs.
const ALONE: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 3), 9_999);
