//! Where the peer's audio is to be sent, and its RTCP: `c=` (RFC 8866 section 5.7) and `a=rtcp` (RFC 3605).
//!
//! A description may name addresses of both families: a line of audio for each, without a word on how they
//! belong together (RFC 4091's is deprecated), several `c=` in one line, or one of its own for a line. The
//! first that we have an address for is taken.

#![deny(clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Media, Session};

use crate::sip::dtls;
use crate::sip::sdp::{self, LocalMedia};

/// The addresses that audio may be sent to, in the order of the description.
#[must_use]
pub fn announced(description: &[u8]) -> Vec<IpAddr> {
    let Ok(session) = sdp::parse(description) else {
        return Vec::new();
    };
    let lines = session.medias.iter();
    let audio = lines.filter(|media| media.media.eq_ignore_ascii_case("audio") && media.port != 0);
    let all = audio.flat_map(|media| {
        let checked = dtls::candidates(media).map(|candidate| candidate.ip());
        addresses(&session, media).into_iter().chain(checked)
    });
    all.collect()
}

/// The first that we can be reached from.
pub(super) fn address(session: &Session, media: &Media, local: &LocalMedia) -> Option<IpAddr> {
    addresses(session, media)
        .into_iter()
        .find(|peer| local.towards(*peer).is_some())
}

pub(super) fn addresses(session: &Session, media: &Media) -> Vec<IpAddr> {
    let own = media.connections.iter();
    let all = own.chain(
        session
            .connection
            .iter()
            .filter(|_| media.connections.is_empty()),
    );
    let ips = all.filter_map(|connection| Some(connection.try_address().ok()?.ip.to_canonical()));
    ips.filter(|ip| {
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        !ip.is_multicast() && !broadcast
    })
    .collect()
}

/// The peer's RTCP: with RTP where multiplexed, else `a=rtcp` (RFC 3605), else the next port.
pub(super) fn rtcp_address(media: &Media, rtp: SocketAddr) -> SocketAddr {
    if media.has_attribute("rtcp-mux") {
        return rtp;
    }
    let written = sdp::values(&media.attributes, "rtcp")
        .next()
        .and_then(|value| {
            let mut fields = value.split_ascii_whitespace();
            let port = fields
                .next()?
                .parse()
                .ok()
                .filter(|port: &u16| *port != 0)?;
            let ip = fields
                .nth(2)
                .and_then(|ip| ip.parse::<IpAddr>().ok())
                .map_or(rtp.ip(), |ip| ip.to_canonical());
            Some(SocketAddr::new(ip, port))
        });
    written.unwrap_or_else(|| {
        SocketAddr::new(rtp.ip(), rtp.port().checked_add(1).unwrap_or(rtp.port()))
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use crate::media::codec::Codec;
    use crate::media::parameters::Direction;
    use crate::sip::sdp::{self, LocalMedia, SdpError};

    const V4: &str = "198.51.100.1";
    const V6: &str = "2001:db8::1";

    fn local(address: &str, other: Option<&str>) -> LocalMedia {
        LocalMedia {
            address: address.parse().unwrap(),
            other: other.map(|other| other.parse().unwrap()),
            by_other: false,
            rtp_port: 20_000,
            codecs: vec![Codec::Pcmu],
            session_id: 1,
            session_version: 1,
            direction: Direction::SendRecv,
            prefer_own_order: false,
            keys: None,
            handshake: None,
        }
    }

    /// Where audio goes, and the `c=` and `m=` of our answer.
    fn answered(lines: &str, local: &LocalMedia) -> Result<(String, String), SdpError> {
        let offer = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nt=0 0\r\n{lines}");
        let (parameters, answer) = sdp::answer(offer.as_bytes(), local)?;
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        let own = |line: &&str| line.starts_with("c=") || line.starts_with("m=");
        let own: Vec<&str> = answer.lines().filter(own).collect();
        Ok((parameters.remote_rtp.to_string(), own.join(" ")))
    }

    const AUDIO: &str = "m=audio 4000 RTP/AVP 0\r\n";

    #[test]
    fn audio_by_another_family_than_signalling_is_answered_in_its_own() {
        let offer = format!("c=IN IP6 2001:db8::7\r\n{AUDIO}");
        let expected = "c=IN IP6 2001:db8::1 m=audio 20000 RTP/AVP 0";
        let told = answered(&offer, &local(V4, Some(V6))).unwrap();
        assert_eq!(told, ("[2001:db8::7]:4000".to_owned(), expected.to_owned()));
        // Who has no address of that family says so, instead of sending audio nowhere.
        assert_eq!(answered(&offer, &local(V4, None)), Err(SdpError::Address));
    }

    #[test]
    fn of_lines_in_both_families_the_first_that_can_be_reached_is_taken() {
        let six = "m=audio 4006 RTP/AVP 0\r\nc=IN IP6 2001:db8::7\r\n";
        let four = "m=audio 4004 RTP/AVP 0\r\nc=IN IP4 192.0.2.7\r\n";
        let both = format!("a=group:ANAT 1 2\r\n{six}a=mid:1\r\n{four}a=mid:2\r\n");
        let (whereto, own) = answered(&both, &local(V4, Some(V6))).unwrap();
        assert_eq!(whereto, "[2001:db8::7]:4006");
        assert_eq!(
            own,
            "c=IN IP6 2001:db8::1 m=audio 20000 RTP/AVP 0 m=audio 0 RTP/AVP 0"
        );
        let (whereto, own) = answered(&both, &local(V4, None)).unwrap();
        assert_eq!(whereto, "192.0.2.7:4004");
        assert_eq!(
            own,
            "c=IN IP4 198.51.100.1 m=audio 0 RTP/AVP 0 m=audio 20000 RTP/AVP 0"
        );
        // Two addresses of one line.
        let line = format!("{AUDIO}c=IN IP6 2001:db8::7\r\nc=IN IP4 192.0.2.7\r\n");
        let (whereto, _) = answered(&line, &local(V4, None)).unwrap();
        assert_eq!(whereto, "192.0.2.7:4000");
    }

    #[test]
    fn what_was_agreed_on_goes_on_in_its_family_under_the_same_origin() {
        let mut local = local(V4, Some(V6));
        let offer = |c: &str| {
            format!("v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc={c}\r\nt=0 0\r\n{AUDIO}")
        };
        let told = |description: &[u8]| {
            let text = String::from_utf8(description.to_vec()).unwrap();
            let own = |line: &&str| line.starts_with("o=") || line.starts_with("c=");
            text.lines().filter(own).collect::<Vec<_>>().join(" ")
        };
        let both = format!("o=- 1 1 IN IP4 {V4} c=IN IP6 {V6}");
        for c in ["IN IP6 2001:db8::7", "IN IP4 0.0.0.0", "IN IP6 ::"] {
            let (agreed, answer) = sdp::answer(offer(c).as_bytes(), &local).unwrap();
            assert_eq!(told(&answer), both, "{c}");
            local.agreed(&agreed);
            assert_eq!(told(&sdp::offer(&local)), both, "{c}");
        }
        // The peer may change it.
        let (agreed, answer) = sdp::answer(offer("IN IP4 192.0.2.7").as_bytes(), &local).unwrap();
        let four = format!("o=- 1 1 IN IP4 {V4} c=IN IP4 {V4}");
        assert_eq!(told(&answer), four);
        local.agreed(&agreed);
        assert_eq!(told(&sdp::offer(&local)), four);
    }

    #[test]
    fn an_ipv4_address_written_as_ipv6_is_the_ipv4_address() {
        let lines =
            format!("c=IN IP6 ::ffff:192.0.2.7\r\n{AUDIO}a=rtcp:4009 IN IP6 ::ffff:192.0.2.7\r\n");
        let (whereto, own) = answered(&lines, &local(V4, None)).unwrap();
        assert_eq!(whereto, "192.0.2.7:4000");
        assert_eq!(own, "c=IN IP4 198.51.100.1 m=audio 20000 RTP/AVP 0");
        let offer = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nt=0 0\r\n{lines}");
        let (parameters, _) = sdp::answer(offer.as_bytes(), &local(V4, None)).unwrap();
        assert_eq!(parameters.remote_rtcp.to_string(), "192.0.2.7:4009");
    }

    #[test]
    fn hold_without_an_address_is_hold_in_either_family() {
        for nowhere in ["IN IP4 0.0.0.0", "IN IP6 ::"] {
            for own in [V4, V6] {
                let offer = format!("c={nowhere}\r\n{AUDIO}");
                let (_, told) = answered(&offer, &local(own, None)).unwrap();
                assert!(
                    told.starts_with(&format!("c=IN IP{} {own}", if own == V4 { 4 } else { 6 }))
                );
            }
        }
    }

    #[test]
    fn what_is_announced_are_the_addresses_of_audio_that_is_on() {
        let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n\
            m=video 4000 RTP/AVP 96\r\nc=IN IP6 2001:db8::5\r\nm=audio 0 RTP/AVP 0\r\nc=IN IP6 2001:db8::6\r\n\
            m=audio 4000 RTP/AVP 0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP6 2001:db8::7\r\nc=IN IP6 ff02::1\r\n";
        let expected: [IpAddr; 2] = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(super::announced(offer.as_bytes()), expected);
        assert_eq!(super::announced(b"nonsense"), [] as [IpAddr; 0]);
    }
}
