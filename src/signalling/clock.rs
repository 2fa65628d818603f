//! The one place where the call side reads clocks.

use std::time::Instant;

use jiff::Timestamp;

/// Monotonic time: timers, media.
#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time: bookings, records, speech.
#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
pub(crate) fn wall() -> Timestamp {
    Timestamp::now()
}
