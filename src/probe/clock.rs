//! The phone's clock.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a shell's clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}
