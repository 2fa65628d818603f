//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

use crate::booking::Pin;
use crate::config::DatabaseUrl;

/// A telephone gateway for booked meetings.
#[derive(Debug, Parser)]
#[command(
    name = "voicebridge",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What voicebridge can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node; without --config everything is kept in ./data
    Serve(ConfigFile),
    /// Check configuration, store, ports and prompts; a line each, exit code 1 if any fails
    Check(ConfigFile),
    /// Create, list and revoke API keys
    Key(KeyArgs),
    /// Steer a running node over its local socket (not supported yet)
    Ctl(CtlArgs),
    /// Place a real call, type the PIN, check that audio flows both ways
    Probe(ProbeArgs),
    /// Move a grown installation from one store to another
    Store(StoreArgs),
    /// Print the OpenAPI document of the HTTP API
    Openapi,
}

/// Which configuration to use.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// Configuration file (TOML); VOICEBRIDGE_SECTION__KEY variables win over it
    #[arg(long = "config", value_name = "FILE", global = true)]
    pub file: Option<PathBuf>,
}

/// `voicebridge key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// Which configuration to use.
    #[command(flatten)]
    pub config: ConfigFile,
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What can be done with API keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print it, alone, once
    Create(KeyCreateArgs),
    /// List all keys, without the keys themselves
    List,
    /// Make a key worthless at once
    Revoke {
        /// The key's ID, as `key list` shows it
        id: Uuid,
    },
}

/// `voicebridge key create`.
#[derive(Debug, Args)]
pub struct KeyCreateArgs {
    /// Organisation that the key acts for; made if it doesn't exist
    #[arg(long, value_name = "NAME")]
    pub organisation: String,
    /// What the key may do
    #[arg(long, value_enum)]
    pub role: KeyRole,
    /// What it may do beyond its role; may be given several times
    #[arg(long = "scope", value_enum)]
    pub scopes: Vec<KeyScope>,
    /// Day after which it is worthless, like 2027-12-31
    #[arg(long, value_name = "DATE")]
    pub expires: Option<jiff::civil::Date>,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyRole {
    /// Everything, for all organisations
    Platform,
    /// Everything in its organisation
    Admin,
    /// Watch and steer meetings
    Operator,
    /// Book meetings
    Booking,
    /// Look, but see no PINs
    Reader,
}

/// What a key may do beyond its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyScope {
    /// Let meetings call people
    Dial,
}

/// `voicebridge store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// What can be done with stores.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Copy everything from one into another, which must be empty; stop the nodes before
    Copy {
        /// Where it is: sqlite:FILE or postgres://USER@HOST/DATABASE (password: PGPASSWORD or ~/.pgpass)
        from: DatabaseUrl,
        /// Where it shall be
        to: DatabaseUrl,
    },
}

/// `voicebridge ctl`.
#[derive(Debug, Args)]
pub struct CtlArgs {
    /// Which configuration to use.
    #[command(flatten)]
    pub config: ConfigFile,
    /// What to do.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// What can be done with a running node.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CtlCommand {
    /// How the node is
    Status,
    /// The calls that are up
    Calls,
    /// The meetings that are live
    Meetings,
    /// Hang up a call
    Hangup {
        /// The call's ID, as `ctl calls` shows it
        id: Uuid,
    },
    /// Take no new calls, end when the last is over
    Drain,
    /// Change what is logged until the next start
    LogLevel {
        /// How much
        #[arg(value_enum)]
        level: LogLevel,
    },
    /// Print a call's signalling as it happens, without personal data
    Trace {
        /// The call's ID, as `ctl calls` shows it
        call: Uuid,
    },
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What failed
    Error,
    /// What an operator should look at
    Warn,
    /// What happened
    Info,
    /// Why it happened
    Debug,
    /// Everything
    Trace,
}

/// `voicebridge probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// Where to call, like sip:7000@127.0.0.1:5060 or sip:7000@host;transport=tcp
    #[arg(value_name = "SIP-URI", value_parser = sip_uri)]
    pub uri: String,
    /// PIN to type
    #[arg(long, value_parser = Pin::parse)]
    pub pin: Pin,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

fn sip_uri(text: &str) -> Result<String, &'static str> {
    let rest = text.strip_prefix("sip:").ok_or("must begin with sip:")?;
    let ok = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic());
    if ok {
        Ok(text.to_owned())
    } else {
        Err("must be a SIP URI like sip:7000@127.0.0.1:5060")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_promised_command_is_understood() {
        for line in [
            "voicebridge serve",
            "voicebridge serve --config vb.toml",
            "voicebridge check --config vb.toml",
            "voicebridge key create --organisation demo --role booking",
            "voicebridge key create --organisation demo --role admin --scope dial --expires 2027-12-31 --config vb.toml",
            "voicebridge key list --config vb.toml",
            "voicebridge ctl status --config vb.toml",
            "voicebridge key --config vb.toml list",
            "voicebridge key revoke 01890a5d-ac96-774b-bcce-b302099a8057",
            "voicebridge ctl status",
            "voicebridge ctl calls",
            "voicebridge ctl meetings",
            "voicebridge ctl hangup 01890a5d-ac96-774b-bcce-b302099a8057",
            "voicebridge ctl drain",
            "voicebridge ctl log-level debug",
            "voicebridge ctl trace 01890a5d-ac96-774b-bcce-b302099a8057",
            "voicebridge probe sip:7000@127.0.0.1:5060 --pin 1234567890",
            "voicebridge probe sip:7000@127.0.0.1:5060 --pin 1234567890 --json",
            "voicebridge store copy sqlite:data/voicebridge.db postgres://vb@localhost/vb?host=/run/postgresql",
            "voicebridge openapi",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "voicebridge",
            "voicebridge dance",
            "voicebridge key create --organisation demo --role king",
            "voicebridge key create --role admin",
            "voicebridge key create --organisation demo --role admin --expires tomorrow",
            "voicebridge ctl log-level loud",
            "voicebridge probe 7000@127.0.0.1 --pin 1234567890",
            "voicebridge probe sip:7000@127.0.0.1",
            "voicebridge store copy sqlite:a.db",
            "voicebridge store copy sqlite:a.db mysql://b",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_pin_is_not_printed_with_the_command() {
        let command = parse("voicebridge probe sip:7000@127.0.0.1 --pin 4815162342").unwrap();
        assert!(!format!("{command:?}").contains("4815162342"));
    }
}
