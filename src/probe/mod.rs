//! `voicebridge probe`: a real call to a real server, for operators, Zabbix and cron.
//!
//! It dials, types the PIN and listens. In the echo meeting its own tone comes back. In any other meeting
//! the server's voice must be heard, its receiver reports must show that our packets arrive, and the call
//! must outlive three entries of the PIN: a PIN that is refused three times ends a call, digits keyed in by
//! a participant do nothing.

mod audio;
mod clock;
mod phone;
pub mod sound;
mod wire;

use std::io;
use std::time::Duration;

pub use audio::{Heard, TONE_LEVEL};
pub use phone::Phone;
pub use wire::Target;

use crate::booking::Pin;
use crate::media::codec::Codec;
use crate::units::Key;

/// What to probe.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// Whom to call.
    pub uri: String,
    /// What to type.
    pub pin: Pin,
    /// Print the result as JSON.
    pub json: bool,
}

/// What a probe found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ProbeResult {
    /// Everything that was to be checked held.
    pub ok: bool,
    /// What was wrong; empty where nothing was.
    pub failures: Vec<String>,
    /// From INVITE to the answer, ms.
    pub answer_ms: u64,
    /// The echo of our own tone was heard.
    pub echo: bool,
    /// RTP packets received.
    pub packets: u64,
    /// RTP packets lost on the way to us.
    pub lost: u64,
    /// The longest time between two packets, ms.
    pub longest_gap_ms: u64,
}

/// Why a probe's call failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The URI is not one that can be called.
    #[error(
        "the target must be a SIP URI such as sip:7000@127.0.0.1:5060 or sip:7000@host;transport=tcp"
    )]
    Target,
    /// The host is not known.
    #[error("the host can't be found: {0}")]
    Resolve(#[source] io::Error),
    /// The server can't be reached.
    #[error("the server can't be reached: {0}")]
    Connect(#[source] io::Error),
    /// No port for audio.
    #[error("no local port for audio: {0}")]
    Media(#[source] io::Error),
    /// Nobody answered.
    #[error("no answer")]
    NoAnswer,
    /// The call was refused.
    #[error("the call was refused with SIP status {0}")]
    Refused(u16),
    /// The answer can't be used.
    #[error("the server's answer names no audio that was offered")]
    Answer,
    /// No random numbers.
    #[error("the operating system gives no random numbers")]
    Random,
}

/// Probes, and tells what was found, also where the call could not be placed.
///
/// # Errors
/// The system gives no runtime.
pub fn run(options: &ProbeOptions) -> io::Result<ProbeResult> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = runtime.block_on(probe(options));
    Ok(found.unwrap_or_else(|error| ProbeResult::failed(&error)))
}

/// Places the call.
///
/// # Errors
/// It was not answered, or a socket failed.
pub async fn probe(options: &ProbeOptions) -> Result<ProbeResult, ProbeError> {
    let target = Target::parse(&options.uri)?;
    let dialled = clock::now();
    let mut phone = Phone::dial(&target, Codec::Pcma, TONE_HZ).await?;
    let answer_ms = millis(clock::now().saturating_duration_since(dialled));
    phone.talk(BEFORE_KEYS).await?;
    phone.press(keys(&options.pin).chain([Key::HASH]));
    let mut up = phone.talk(AFTER_PIN).await?;
    for _ in 0..FURTHER_ENTRIES {
        if up && phone.heard().echo_frames < ECHO_FRAMES {
            phone.press(keys(&options.pin));
            up = phone.talk(AFTER_FURTHER_ENTRY).await?;
        }
    }
    let heard = phone.hang_up().await?;
    Ok(ProbeResult::of(&heard, up, answer_ms))
}

fn keys(pin: &Pin) -> impl Iterator<Item = Key> + '_ {
    pin.expose().chars().filter_map(Key::from_char)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn random() -> Result<u64, ProbeError> {
    getrandom::u64().map_err(|_| ProbeError::Random)
}

impl ProbeResult {
    fn of(heard: &Heard, up: bool, answer_ms: u64) -> Self {
        let echo = heard.echo_frames >= ECHO_FRAMES;
        let checks = [
            (
                !up,
                "the server hung up: is the PIN right, and the meeting open?",
            ),
            (
                heard.packets == 0,
                "no audio came: is media.ports open in the firewall, media.address right?",
            ),
            (
                heard.packets > 0 && heard.loud_frames == 0,
                "only silence came",
            ),
            (
                !echo && !heard.reaches_server,
                "our audio does not reach the server",
            ),
        ];
        let failures: Vec<String> = checks
            .into_iter()
            .filter(|(wrong, _)| *wrong)
            .map(|(_, what)| what.to_owned())
            .collect();
        Self {
            ok: failures.is_empty(),
            failures,
            answer_ms,
            echo,
            packets: heard.packets,
            lost: heard.lost,
            longest_gap_ms: millis(heard.longest_gap),
        }
    }

    fn failed(error: &ProbeError) -> Self {
        Self {
            ok: false,
            failures: vec![error.to_string()],
            answer_ms: 0,
            echo: false,
            packets: 0,
            lost: 0,
            longest_gap_ms: 0,
        }
    }

    /// For people.
    #[must_use]
    pub fn in_words(&self) -> String {
        if self.ok {
            let how = if self.echo {
                "heard its own tone"
            } else {
                "audio flows both ways"
            };
            format!(
                "ok: answered after {} ms, {how}, {} packets, {} lost, longest gap {} ms",
                self.answer_ms, self.packets, self.lost, self.longest_gap_ms
            )
        } else {
            format!("FAILED: {}", self.failures.join("; "))
        }
    }
}

/// No key's frequency, nor near one.
const TONE_HZ: f64 = 1_060.0;
const BEFORE_KEYS: Duration = Duration::from_millis(500);
const AFTER_PIN: Duration = Duration::from_secs(7);
const AFTER_FURTHER_ENTRY: Duration = Duration::from_secs(8);
const FURTHER_ENTRIES: usize = 2;
/// A fifth of a second of our own tone.
const ECHO_FRAMES: u64 = 10;
