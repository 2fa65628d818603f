//! Header extensions in a session description (RFC 8285 section 5). One is spoken here: the level that a
//! peer tells of each packet it sends (RFC 6464). We never tell ours.

#![deny(clippy::indexing_slicing)]

/// Under which identifier a peer would tell levels, by its `a=extmap` lines.
pub(super) fn peers_level<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<u8> {
    lines.find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (first, name) = (words.next()?, words.next()?);
        let (id, direction) = first.split_once('/').unwrap_or((first, "sendrecv"));
        let sends = ["sendrecv", "sendonly"]
            .iter()
            .any(|word| direction.eq_ignore_ascii_case(word));
        let id = id.parse().ok().filter(|id| IDS.contains(id))?;
        (sends && name == LEVEL).then_some(id)
    })
}

/// The line by which we take levels under this identifier.
pub(super) fn our_level(id: u8) -> String {
    format!("{id}/recvonly {LEVEL}")
}

/// What we offer.
pub(super) const OFFERED_ID: u8 = 1;
/// RFC 6464 section 5.
const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// Those that both forms of a header can hold (RFC 8285 section 4.2).
const IDS: std::ops::RangeInclusive<u8> = 1..=14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_taken_where_the_peer_would_send_them() {
        let level = |id: &str| peers_level([format!("{id} {LEVEL} vad=on").as_str()].into_iter());
        assert_eq!(level("3"), Some(3));
        assert_eq!(level("14/sendonly"), Some(14));
        assert_eq!(level("7/SendRecv"), Some(7));
        for none in ["3/recvonly", "3/inactive", "0", "15", "4096", "x", "", "3/"] {
            assert_eq!(level(none), None, "{none}");
        }
        let others = ["2 urn:ietf:params:rtp-hdrext:toffset", "4", "", "5 "];
        assert_eq!(peers_level(others.into_iter()), None);
    }
}
