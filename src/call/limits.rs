//! Every duration and count that bounds a call, each with its name.

use std::time::Duration;

/// The limits of one call. `Default` is what callers are promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallLimits {
    /// How long it rings before it is answered; zero answers at once.
    pub ring: Duration,
    /// How long somebody is rung whom we call.
    pub dial_ring: Duration,
    /// From our answer to its acknowledgement (RFC 3261 section 13.3.1.4 gives up after 32 s).
    pub acknowledge: Duration,
    /// Silence after a prompt before it is said again.
    pub silence: Duration,
    /// So many silent prompts end the call.
    pub silent_prompts: u32,
    /// From the answer to an accepted PIN; for one whom we call, to his decision to join.
    pub before_pin: Duration,
    /// Silence that ends a PIN that has begun.
    pub between_digits: Duration,
    /// A `#` so soon after a PIN that completed itself belongs to the PIN.
    pub late_hash: Duration,
    /// Wrong PINs before the goodbye.
    pub wrong_pins: u32,
    /// Tries at keying in what he hears, before the goodbye.
    pub challenges: u32,
    /// Who was asked to key in what he hears waits for so long, times his wrong PINs, before another is looked at.
    pub slowed: Duration,
    /// The longest PIN in use: an entry of that length is complete without `#`.
    pub pin_length_auto: Option<usize>,
    /// How long the bookings may take to answer.
    pub look_up: Duration,
    /// How long who comes back after a loss is kept while the bookings can't say whether his meeting is still on.
    pub going_back: Duration,
    /// When they are asked again then.
    pub ask_again: Duration,
    /// How long the room may take to answer.
    pub enter: Duration,
    /// Keys kept while the bookings or the room answer.
    pub type_ahead: usize,
    /// Second key of a command after the first.
    pub half_command: Duration,
    /// Waiting for the start or the host.
    pub waiting: Duration,
    /// Alone in a meeting.
    pub alone: Duration,
    /// How long those who come back together with a caller may take before he is taken for alone.
    pub company_returns: Duration,
    /// A whole call, from its answer.
    pub call: Duration,
    /// Last words.
    pub goodbye: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            ring: Duration::ZERO,
            dial_ring: Duration::from_secs(25),
            acknowledge: Duration::from_secs(40),
            silence: Duration::from_secs(10),
            silent_prompts: 3,
            before_pin: Duration::from_secs(90),
            between_digits: Duration::from_secs(4),
            late_hash: Duration::from_secs(3),
            wrong_pins: 3,
            challenges: 3,
            slowed: Duration::from_secs(2),
            pin_length_auto: None,
            look_up: Duration::from_secs(10),
            going_back: Duration::from_secs(60),
            ask_again: Duration::from_millis(500),
            enter: Duration::from_secs(10),
            type_ahead: 32,
            half_command: Duration::from_secs(3),
            waiting: Duration::from_secs(30 * 60),
            alone: Duration::from_secs(30 * 60),
            company_returns: Duration::from_secs(5),
            call: Duration::from_secs(12 * 60 * 60),
            goodbye: Duration::from_secs(10),
        }
    }
}
