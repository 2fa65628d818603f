//! Keys by a handshake in the path of the audio, in a session description: `a=fingerprint` (RFC 8122),
//! `a=setup` (RFC 4145, RFC 8842) and, for the checks before it, ICE (RFC 8839). An answer is `passive` where
//! the offer leaves the choice: so the offerer's first message, which finds its way through his NAT, begins.
//!
//! RTCP has to be multiplexed: a handshake of its own on the next port, which RFC 5764 would have it make, is
//! not made: who doesn't multiplex is refused.

#![deny(clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Attribute, Media, Session};

use crate::handshake::{Credentials, Fingerprint, Peer, Role};
use crate::media::parameters::Keying;
use crate::sip::connection;
use crate::sip::sdp::{LocalMedia, SdpError, values};

/// Our side of the handshakes of a dialog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalHandshake {
    /// Of our certificate.
    pub fingerprint: Fingerprint,
    /// What answers the peer's checks.
    pub credentials: Credentials,
    /// What was agreed on, and is offered again.
    pub in_use: Option<InUse>,
}

/// What a handshake that was agreed on is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InUse {
    /// Our part of it.
    pub ours: Role,
    /// The peer checks the way before it.
    pub by_ice: bool,
    /// The profile has feedback (`SAVPF`).
    pub feedback: bool,
}

/// Is that a profile whose keys come by a handshake?
pub(super) fn is_by_handshake(media: &Media) -> bool {
    let mut all = PROFILES.iter();
    all.any(|profile| media.proto.eq_ignore_ascii_case(profile))
}

/// What a line says of the handshake; `None`: its keys don't come by one.
///
/// # Errors
/// It can't be made: see [`SdpError`].
pub(super) fn peer(
    session: &Session,
    media: &Media,
    local: &LocalMedia,
) -> Result<Option<Peer>, SdpError> {
    if !is_by_handshake(media) {
        return Ok(None);
    }
    let own = local.handshake.as_ref().ok_or(SdpError::Transport)?;
    if !media.has_attribute("rtcp-mux") {
        return Err(SdpError::NotMultiplexed);
    }
    let fingerprints = fingerprints(session, media);
    if fingerprints.is_empty() {
        return Err(SdpError::Cipher);
    }
    let setup = first(session, media, "setup").unwrap_or("actpass").trim();
    let ours = match setup.to_ascii_lowercase().as_str() {
        // A handshake that goes on has its parts (RFC 8842 section 5.5).
        "actpass" => own.in_use.map_or(Role::Passive, |in_use| in_use.ours),
        "active" => Role::Passive,
        "passive" => Role::Active,
        // `holdconn`, which audio has no use for, and what isn't defined.
        _ => return Err(SdpError::Transport),
    };
    Ok(Some(Peer {
        fingerprints,
        ours,
        ice: checks(session, media),
    }))
}

/// How the keys of a line come.
pub(super) const fn keying(peer: Option<&Peer>) -> Keying {
    match peer {
        None => Keying::Signalled,
        Some(Peer { ice: None, .. }) => Keying::Handshake,
        Some(Peer { ice: Some(_), .. }) => Keying::CheckedHandshake,
    }
}

/// What an answer to a line says of it.
pub(super) fn answer_attributes(
    session: &Session,
    media: &Media,
    local: &LocalMedia,
) -> Vec<Attribute> {
    let (Ok(Some(peer)), Some(own)) = (peer(session, media, local), &local.handshake) else {
        return Vec::new();
    };
    let setup = match peer.ours {
        Role::Passive => "passive",
        Role::Active => "active",
    };
    let mut attributes = secured(own, setup);
    let mid = values(&media.attributes, "mid").next();
    attributes.extend(mid.map(|mid| Attribute::with_value("mid", mid)));
    if peer.ice.is_some() {
        attributes.extend(checking(own, local));
    } else if is_mismatched(session, media) {
        attributes.push(Attribute::new("ice-mismatch"));
    }
    attributes
}

/// What the head of an answer says of it: that we are a lite side, and which line is bundled with no other.
pub(super) fn answer_head(session: &Session, media: &Media, local: &LocalMedia) -> Vec<Attribute> {
    let Ok(Some(peer)) = peer(session, media, local) else {
        return Vec::new();
    };
    let mut head = Vec::new();
    let mid = values(&media.attributes, "mid").next().map(str::trim);
    let bundled = values(&session.attributes, "group").any(|group| {
        let mut words = group.split_ascii_whitespace();
        words.next() == Some("BUNDLE") && words.any(|word| Some(word) == mid)
    });
    if let Some(mid) = mid.filter(|_| bundled) {
        head.push(Attribute::with_value("group", format!("BUNDLE {mid}")));
    }
    head.extend(peer.ice.map(|_| Attribute::new("ice-lite")));
    head
}

/// The profile and attributes of an offer, and its head, where a handshake is in use.
pub(super) fn offered(
    local: &LocalMedia,
) -> Option<(&'static str, Vec<Attribute>, Vec<Attribute>)> {
    let own = local.handshake.as_ref()?;
    let in_use = own.in_use?;
    let [plain, feedback] = PROFILES;
    let profile = if in_use.feedback { feedback } else { plain };
    let mut attributes = secured(own, "actpass");
    attributes.push(Attribute::new("rtcp-mux"));
    let mut head = Vec::new();
    if in_use.by_ice {
        attributes.extend(checking(own, local));
        head.push(Attribute::new("ice-lite"));
    }
    Some((profile, attributes, head))
}

/// The addresses of the candidates of a line.
pub(super) fn candidates(media: &Media) -> impl Iterator<Item = SocketAddr> {
    let all = values(&media.attributes, "candidate").take(CANDIDATES_MAX);
    all.filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let component = words.nth(1)?;
        let transport = words.next()?;
        let ip: IpAddr = words.nth(1)?.parse().ok()?;
        let port = words.next()?.parse().ok()?;
        let is_ours = component == "1" && transport.eq_ignore_ascii_case("udp");
        is_ours.then(|| SocketAddr::new(ip.to_canonical(), port))
    })
}

fn secured(own: &LocalHandshake, setup: &str) -> Vec<Attribute> {
    vec![
        Attribute::with_value("fingerprint", &own.fingerprint),
        Attribute::with_value("setup", setup),
    ]
}

/// One candidate for each address of ours, all of them there from the beginning.
fn checking(own: &LocalHandshake, local: &LocalMedia) -> Vec<Attribute> {
    let mut attributes = vec![
        Attribute::with_value("ice-ufrag", own.credentials.ufrag()),
        Attribute::with_value("ice-pwd", own.credentials.expose_pwd()),
    ];
    let addresses = [Some(local.address), local.other].into_iter().flatten();
    let addresses = addresses.filter(|ip| !ip.is_unspecified());
    attributes.extend(addresses.zip(1_u32..).map(|(ip, number)| {
        // RFC 8445 section 5.1.2.1: a host's, each a little less than the one before, of component 1.
        let priority = (126 << 24) | ((65_536 - number) << 8) | 255;
        let port = local.rtp_port;
        let candidate = format!("{number} 1 UDP {priority} {ip} {port} typ host");
        Attribute::with_value("candidate", candidate)
    }));
    attributes.push(Attribute::new("end-of-candidates"));
    attributes
}

/// A line's own instead of those of the whole session.
fn fingerprints(session: &Session, media: &Media) -> Vec<Fingerprint> {
    let has_own = values(&media.attributes, "fingerprint").next().is_some();
    let of = if has_own {
        &media.attributes
    } else {
        &session.attributes
    };
    let all = values(of, "fingerprint").take(FINGERPRINTS_MAX);
    all.filter_map(Fingerprint::parse).collect()
}

/// The peer's name and password, where he makes checks that can be answered by us alone.
fn checks(session: &Session, media: &Media) -> Option<Credentials> {
    // Two lite sides check nothing.
    let lite = session.has_attribute("ice-lite") || is_mismatched(session, media);
    let ufrag = first(session, media, "ice-ufrag").filter(|_| !lite)?;
    Credentials::parse(ufrag, first(session, media, "ice-pwd")?)
}

/// Somebody on the way has changed where audio goes, but none of the candidates (RFC 8839 section 4.2.4):
/// checks would go past him. Who gathers candidates yet has none, or says so by port 9.
fn is_mismatched(session: &Session, media: &Media) -> bool {
    let mut all = candidates(media).peekable();
    let default = connection::addresses(session, media).into_iter().next();
    let Some(default) = default.filter(|ip| !ip.is_unspecified() && media.port != DISCARD) else {
        return false;
    };
    all.peek().is_some() && !all.any(|candidate| candidate == SocketAddr::new(default, media.port))
}

fn first<'a>(session: &'a Session, media: &'a Media, name: &'static str) -> Option<&'a str> {
    let mut all = values(&media.attributes, name).chain(values(&session.attributes, name));
    all.next()
}

/// Without feedback, and with (RFC 5124).
const PROFILES: [&str; 2] = ["UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"];
const FINGERPRINTS_MAX: usize = 8;
const CANDIDATES_MAX: usize = 64;
/// What stands for no port yet (RFC 8840 section 4.1).
const DISCARD: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{CREDENTIALS_BYTES, Hash};
    use crate::media::codec::Codec;
    use crate::media::parameters::{Direction, MediaParameters};
    use crate::sip::sdes::LocalKeys;
    use crate::sip::sdp;

    fn own() -> LocalHandshake {
        LocalHandshake {
            fingerprint: Fingerprint::of(Hash::Sha256, b"ours"),
            credentials: Credentials::new(&[7; CREDENTIALS_BYTES]),
            in_use: None,
        }
    }

    fn local() -> LocalMedia {
        LocalMedia {
            codecs: vec![Codec::Pcmu],
            handshake: Some(own()),
            ..sdp::tests::local()
        }
    }

    fn theirs() -> String {
        format!(
            "a=fingerprint:{}\r\n",
            Fingerprint::of(Hash::Sha256, b"theirs")
        )
    }

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n";
    const LINE: &str = "m=audio 4000 UDP/TLS/RTP/SAVP 0\r\na=rtcp-mux\r\n";
    const ICE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghij+/\r\n";

    fn answered(offer: &str, local: &LocalMedia) -> Result<(MediaParameters, String), SdpError> {
        let (parameters, text) = sdp::answer(offer.as_bytes(), local)?;
        Ok((parameters, String::from_utf8(text.to_vec()).unwrap()))
    }

    fn peer_of(offer: &str) -> Peer {
        sdp::handshake(offer.as_bytes(), &local()).unwrap().0
    }

    #[test]
    fn an_offer_of_a_handshake_is_answered_passively_with_our_fingerprint() {
        let offer = format!("{HEAD}{LINE}{}a=setup:actpass\r\n", theirs());
        let (parameters, text) = answered(&offer, &local()).unwrap();
        assert_eq!(parameters.keying, Keying::Handshake);
        assert!(parameters.awaits_keys());
        let ours = own().fingerprint;
        assert!(text.ends_with(&format!(
            "m=audio 20000 UDP/TLS/RTP/SAVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=sendrecv\r\na=rtcp-mux\r\n\
             a=fingerprint:{ours}\r\na=setup:passive\r\n"
        )), "{text}");
        let (peer, in_use) = sdp::handshake(offer.as_bytes(), &local()).unwrap();
        assert_eq!(
            peer.fingerprints,
            [Fingerprint::of(Hash::Sha256, b"theirs")]
        );
        assert_eq!(
            (peer.ours, in_use.by_ice, in_use.feedback),
            (Role::Passive, false, false)
        );
    }

    #[test]
    fn who_wants_us_to_begin_is_called_on_and_the_parts_stay_as_they_are() {
        let offer = |setup: &str| format!("{HEAD}{LINE}{}{setup}", theirs());
        for (setup, ours, word) in [
            ("a=setup:passive\r\n", Role::Active, "a=setup:active\r\n"),
            ("a=setup:active\r\n", Role::Passive, "a=setup:passive\r\n"),
            ("", Role::Passive, "a=setup:passive\r\n"),
        ] {
            assert_eq!(peer_of(&offer(setup)).ours, ours);
            assert!(answered(&offer(setup), &local()).unwrap().1.contains(word));
        }
        let mut later = local();
        let ours = Role::Active;
        let in_use = InUse {
            ours,
            by_ice: false,
            feedback: false,
        };
        later.handshake.as_mut().unwrap().in_use = Some(in_use);
        let text = answered(&offer("a=setup:actpass\r\n"), &later).unwrap().1;
        assert!(text.contains("a=setup:active\r\n"), "{text}");
        let odd = answered(&offer("a=setup:holdconn\r\n"), &local());
        assert_eq!(odd.unwrap_err(), SdpError::Transport);
    }

    #[test]
    fn what_a_browser_offers_is_answered_with_candidates_of_ours_and_audio_alone_in_its_bundle() {
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-options:trickle\r\n{}\
             m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n{ICE}\
             a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n",
            theirs()
        );
        let local = LocalMedia {
            other: Some("2001:db8::1".parse().unwrap()),
            ..local()
        };
        let (parameters, text) = answered(&offer, &local).unwrap();
        assert_eq!(parameters.keying, Keying::CheckedHandshake);
        assert_eq!(parameters.direction, Direction::SendRecv);
        let (ours, pwd) = (own().fingerprint, own().credentials);
        for line in [
            "t=0 0\r\na=group:BUNDLE 0\r\na=ice-lite\r\nm=audio 20000 UDP/TLS/RTP/SAVPF 0\r\n",
            &format!(
                "a=fingerprint:{ours}\r\na=setup:passive\r\na=mid:0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
                pwd.ufrag(),
                pwd.expose_pwd()
            ),
            "a=candidate:1 1 UDP 2130706431 198.51.100.1 20000 typ host\r\n",
            "a=candidate:2 1 UDP 2130706175 2001:db8::1 20000 typ host\r\na=end-of-candidates\r\n",
            "m=video 0 UDP/TLS/RTP/SAVPF 96\r\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let (peer, in_use) = sdp::handshake(offer.as_bytes(), &local).unwrap();
        assert!(peer.ice.is_some() && in_use.feedback && in_use.by_ice);
        // What was agreed on is offered again, to be chosen anew by whoever answers.
        let mut again = local;
        again.handshake.as_mut().unwrap().in_use = Some(in_use);
        let again = String::from_utf8(sdp::offer(&again).to_vec()).unwrap();
        for line in [
            "a=ice-lite\r\nm=audio 20000 UDP/TLS/RTP/SAVPF",
            "a=setup:actpass\r\na=rtcp-mux\r\na=ice-ufrag:",
        ] {
            assert!(again.contains(line), "{again}");
        }
    }

    #[test]
    fn checks_that_would_go_past_somebody_are_not_made() {
        let offer = |candidate: &str| format!("{HEAD}{LINE}{}{ICE}{candidate}", theirs());
        let by_ice = |candidate: &str| peer_of(&offer(candidate)).ice.is_some();
        assert!(by_ice(""));
        assert!(by_ice("a=candidate:1 1 UDP 1 192.0.2.7 4000 typ host\r\n"));
        let past = "a=candidate:1 1 UDP 1 10.0.0.7 4000 typ host\r\n";
        assert!(!by_ice(past));
        let (parameters, text) = answered(&offer(past), &local()).unwrap();
        assert_eq!(parameters.keying, Keying::Handshake);
        assert!(
            text.contains("a=ice-mismatch\r\n") && !text.contains("ice-ufrag"),
            "{text}"
        );
        assert!(!by_ice("a=ice-lite\r\n") || peer_of(&offer("")).ice.is_some());
        let short = offer("").replace("abcdefghij+/", "");
        assert_eq!(peer_of(&short).ice, None);
        let lite = offer("").replacen("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n", 1);
        assert_eq!(peer_of(&lite).ice, None);
    }

    #[test]
    fn a_handshake_counts_as_encryption_and_is_refused_where_there_is_to_be_none() {
        let offer = format!("{HEAD}{LINE}{}", theirs());
        let refused = |offer: &str, local: &LocalMedia| answered(offer, local).unwrap_err();
        let strict = LocalMedia {
            keys: local().keys.map(LocalKeys::required),
            ..local()
        };
        assert!(answered(&offer, &strict).is_ok());
        let off = LocalMedia {
            keys: None,
            handshake: None,
            ..local()
        };
        assert_eq!(refused(&offer, &off), SdpError::Transport);
        let unmuxed = offer.replace("a=rtcp-mux\r\n", "");
        assert_eq!(refused(&unmuxed, &local()), SdpError::NotMultiplexed);
        let unknown = offer.replace("sha-256", "sha-1");
        assert_eq!(refused(&unknown, &local()), SdpError::Cipher);
        // Of several lines the first that can be taken is.
        let (parameters, text) =
            answered(&format!("{offer}m=audio 4002 RTP/AVP 0\r\n"), &off).unwrap();
        assert_eq!(parameters.keying, Keying::Signalled);
        assert!(text.contains("m=audio 0 UDP/TLS/RTP/SAVP 0\r\n"), "{text}");
    }

    #[test]
    fn an_answer_to_our_offer_of_a_handshake_must_take_it() {
        let mut local = local();
        let ours = Role::Passive;
        local.handshake.as_mut().unwrap().in_use = Some(InUse {
            ours,
            by_ice: false,
            feedback: false,
        });
        let answer = format!("{HEAD}{LINE}{}a=setup:active\r\n", theirs());
        let agreed = sdp::accept(answer.as_bytes(), &local).unwrap();
        assert_eq!(agreed.keying, Keying::Handshake);
        let plain = format!("{HEAD}m=audio 4000 RTP/AVP 0\r\n");
        assert_eq!(sdp::accept(plain.as_bytes(), &local), Err(SdpError::Cipher));
        local.handshake.as_mut().unwrap().in_use = None;
        assert_eq!(
            sdp::accept(answer.as_bytes(), &local),
            Err(SdpError::Cipher)
        );
    }
}
