//! Format parameters in a session description (RFC 8866 section 6.15). One is asked for here: whether an Opus
//! peer makes use of copies of earlier frames (RFC 7587 section 6.1).

#![deny(clippy::indexing_slicing)]

/// Does the peer say, by its `a=fmtp` lines, that it uses in-band FEC? By the RFC it doesn't unless it says so.
pub(super) fn uses_fec<'a>(mut lines: impl Iterator<Item = &'a str>, payload_type: u8) -> bool {
    let own = lines.find_map(|line| {
        let (number, parameters) = line.trim().split_once(' ')?;
        (number.parse() == Ok(payload_type)).then_some(parameters)
    });
    own.is_some_and(|parameters| {
        parameters.split(';').any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("useinbandfec") && value.trim() == "1"
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_band_fec_is_used_by_who_says_so_for_that_payload_type() {
        let uses = |lines: &[&str]| uses_fec(lines.iter().copied(), 111);
        assert!(uses(&["111 minptime=10;useinbandfec=1"]));
        assert!(uses(&["101 0-15", " 111  stereo=0 ; UseInbandFEC = 1 "]));
        for not in [
            "111 useinbandfec=0",
            "111 minptime=10",
            "111 useinbandfec",
            "111 useinbandfec=11",
            "96 useinbandfec=1",
            "111",
            "",
            "x useinbandfec=1",
        ] {
            assert!(!uses(&[not]), "{not}");
        }
    }
}
