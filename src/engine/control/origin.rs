//! Where a stream begins: random numbers (RFC 3550 section 5.1), and the wall clock of the start.

use std::io;
use std::time::SystemTime;

use crate::engine::config::EngineError;
use crate::media::rtcp::NtpTime;
use crate::media::sender::RtpOrigin;
use crate::units::{RtpTicks, SeqNo, Ssrc};

pub(super) fn random() -> Result<u32, EngineError> {
    getrandom::u32().map_err(|error| EngineError::Io(io::Error::other(error)))
}

/// The first sequence number is in the lower half (RFC 3711 section 3.3.1): a phone that forgets how often it
/// went round when it takes the call off hold, as linphone does, understands nothing more after that.
pub(super) fn random_origin() -> Result<RtpOrigin, EngineError> {
    Ok(RtpOrigin {
        ssrc: Ssrc(random()?),
        sequence: SeqNo((random()? >> 17) as u16),
        timestamp: RtpTicks(random()?),
    })
}

/// Read once, at start: a jump of the wall clock later changes nothing.
#[expect(
    clippy::disallowed_methods,
    reason = "sender reports carry wall clock time"
)]
pub(super) fn wall_clock() -> NtpTime {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    NtpTime::from_unix(since_1970.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stream_goes_round_in_its_first_ten_minutes() {
        for _ in 0..200 {
            assert!(random_origin().unwrap().sequence.0 < 1 << 15);
        }
    }
}
