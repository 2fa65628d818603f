//! Offers and answers.

use super::*;
use crate::media::srtp::{MasterKey, Suite};
use crate::sip::sdes::RANDOM_BYTES;

pub(in crate::sip) fn local() -> LocalMedia {
    LocalMedia {
        address: "198.51.100.1".parse().unwrap(),
        other: None,
        by_other: false,
        rtp_port: 20_000,
        codecs: vec![Codec::Opus, Codec::G722, Codec::Pcma, Codec::Pcmu],
        session_id: 42,
        session_version: 1,
        direction: Direction::SendRecv,
        prefer_own_order: false,
        keys: LocalKeys::new(&[9; RANDOM_BYTES]),
        handshake: None,
    }
}

fn offered(media: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n{media}")
}

fn answer_to(media: &str) -> (MediaParameters, String) {
    let (parameters, bytes) = answer(offered(media).as_bytes(), &local()).unwrap();
    (parameters, String::from_utf8(bytes.to_vec()).unwrap())
}

fn refusal_of(media: &str) -> SdpError {
    answer(offered(media).as_bytes(), &local()).unwrap_err()
}

#[test]
fn a_plain_phone_gets_its_first_codec_and_its_keys() {
    let (parameters, text) = answer_to(
        "m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:30\r\n",
    );
    assert_eq!(
        text,
        "v=0\r\no=- 42 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
         m=audio 20000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
         a=fmtp:101 0-15\r\na=ptime:30\r\na=sendrecv\r\n"
    );
    let expected = MediaParameters {
        codec: Codec::Pcma,
        payload_type_send: 8,
        payload_type_receive: 8,
        telephone_event: Some(TelephoneEvent {
            payload_type: 101,
            clock: 8000,
        }),
        comfort_noise: None,
        audio_level: None,
        uses_fec: false,
        ptime: Ptime::nearest(30),
        direction: Direction::SendRecv,
        remote_rtp: "192.0.2.7:4000".parse().unwrap(),
        remote_rtcp: "192.0.2.7:4001".parse().unwrap(),
        srtp: None,
        keying: Keying::Signalled,
        signalling_source: None,
        proven: Proven::Anywhere,
    };
    assert_eq!(parameters, expected);
}

#[test]
fn opus_keeps_the_offered_payload_type_and_takes_the_keys_of_its_clock() {
    let offer = "m=audio 4000 RTP/AVPF 96 97 98\r\na=rtpmap:96 OPUS/48000/2\r\n\
        a=rtpmap:97 telephone-event/8000\r\na=rtpmap:98 telephone-event/48000\r\na=rtcp-mux\r\na=ptime:30\r\n";
    let (parameters, text) = answer_to(offer);
    assert_eq!(
        (parameters.codec, parameters.payload_type_send),
        (Codec::Opus, 96)
    );
    assert_eq!(
        parameters.telephone_event,
        Some(TelephoneEvent {
            payload_type: 98,
            clock: 48_000
        })
    );
    assert_eq!(parameters.remote_rtcp, parameters.remote_rtp);
    assert_eq!(parameters.ptime, Ptime::nearest(20));
    assert!(text.contains("m=audio 20000 RTP/AVPF 96 98\r\n"), "{text}");
    assert!(
        text.contains(
            "a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1;stereo=0;sprop-stereo=0\r\n"
        ),
        "{text}"
    );
    assert!(text.contains("a=rtcp-mux\r\n"), "{text}");
    assert!(!parameters.uses_fec);
    let (parameters, _) = answer_to(&format!("{offer}a=fmtp:96 useinbandfec=1\r\n"));
    assert!(parameters.uses_fec);
    // Only keys at 16000, or at 8000 offered: better than none.
    let wide = offer
        .replace("telephone-event/48000", "telephone-event/16000")
        .replace("telephone-event/8000", "x/1");
    let (parameters, text) = answer_to(&wide);
    let event = parameters.telephone_event.map(|event| event.clock);
    assert_eq!(event, Some(16_000));
    assert!(
        text.contains("a=rtpmap:98 telephone-event/16000\r\n"),
        "{text}"
    );
    let (parameters, _) = answer_to(&offer.replace("telephone-event/48000", "x/1"));
    assert_eq!(
        parameters.telephone_event,
        Some(TelephoneEvent {
            payload_type: 97,
            clock: 8000
        })
    );
}

#[test]
fn comfort_noise_is_taken_where_it_is_offered_for_the_codec() {
    for (offer, line, payload_type) in [
        ("m=audio 4000 RTP/AVP 8 13\r\n", "8 13", Some(13)),
        (
            "m=audio 4000 RTP/AVP 0 101 13\r\na=rtpmap:13 cn/8000\r\n",
            "0 13",
            Some(13),
        ),
        (
            "m=audio 4000 RTP/AVP 9 98\r\na=rtpmap:98 CN/8000\r\n",
            "9 98",
            Some(98),
        ),
        (
            "m=audio 4000 RTP/AVP 9 98\r\na=rtpmap:98 CN/16000\r\n",
            "9",
            None,
        ),
        (
            "m=audio 4000 RTP/AVP 96 13\r\na=rtpmap:96 opus/48000/2\r\n",
            "96",
            None,
        ),
    ] {
        let (parameters, text) = answer_to(offer);
        assert_eq!(parameters.comfort_noise, payload_type, "{offer}");
        let line = format!("m=audio 20000 RTP/AVP {line}\r\n");
        assert!(text.contains(&line), "{text}");
        let named = payload_type.map(|number| format!("a=rtpmap:{number} CN/8000\r\n"));
        assert_eq!(text.contains(" CN/"), named.is_some(), "{text}");
        assert!(named.is_none_or(|named| text.contains(&named)), "{text}");
    }
}

#[test]
fn a_peer_that_tells_levels_is_asked_for_them_and_others_are_not() {
    let line = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("a=extmap"))
            .map(str::to_owned)
    };
    let urn = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    let audio = "m=audio 4000 RTP/AVP 0\r\n";
    for offer in [
        format!("{audio}a=extmap:2 urn:x\r\na=extmap:5 {urn} vad=off\r\n"),
        format!("a=extmap:5/sendonly {urn}\r\n{audio}"),
    ] {
        let (parameters, text) = answer_to(&offer);
        assert_eq!(parameters.audio_level, Some(5), "{offer}");
        assert_eq!(line(&text), Some(format!("a=extmap:5/recvonly {urn}")));
    }
    let (parameters, text) = answer_to(&format!("{audio}a=extmap:5/recvonly {urn}\r\n"));
    assert_eq!((parameters.audio_level, line(&text)), (None, None));
    // Who only listens to us tells nothing; what was agreed on holds when he speaks again.
    let (parameters, text) = answer_to(&format!("{audio}a=recvonly\r\na=extmap:5 {urn}\r\n"));
    assert_eq!((parameters.audio_level, line(&text)), (Some(5), None));
    let text = String::from_utf8(offer(&local()).to_vec()).unwrap();
    assert_eq!(line(&text), Some(format!("a=extmap:1/recvonly {urn}")));
    let taken = offered(&format!("{audio}a=extmap:1/sendonly {urn}\r\n"));
    assert_eq!(
        accept(taken.as_bytes(), &local()).unwrap().audio_level,
        Some(1)
    );
    assert_eq!(
        accept(offered(audio).as_bytes(), &local())
            .unwrap()
            .audio_level,
        None
    );
}

const CRYPTO: &str =
    "a=crypto:3 AES_CM_128_HMAC_SHA1_32 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20\r\n";

#[test]
fn an_encrypted_line_is_answered_with_a_key_of_ours_for_the_same_cipher() {
    let (parameters, text) = answer_to(&format!("m=audio 4000 RTP/SAVP 0\r\n{CRYPTO}"));
    let keys = parameters.srtp.unwrap();
    let suite = Suite::AesCm128HmacSha1Tag32;
    assert_eq!(keys.ours, MasterKey::new(suite, &[9; 30]).unwrap());
    assert_eq!(keys.theirs.suite(), suite);
    assert_ne!(keys.theirs, keys.ours);
    assert!(text.contains("m=audio 20000 RTP/SAVP 0\r\n"), "{text}");
    let ours =
        "a=crypto:3 AES_CM_128_HMAC_SHA1_32 inline:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ\r\n";
    assert!(text.contains(ours), "{text}");
}

#[test]
fn once_encrypted_our_own_offers_are_too_and_take_no_plain_answer() {
    let mut local = local();
    let offer = offered(&format!("m=audio 4000 RTP/SAVP 0\r\n{CRYPTO}"));
    local.agreed(&answer(offer.as_bytes(), &local).unwrap().0);
    let text = String::from_utf8(super::offer(&local).to_vec()).unwrap();
    assert!(text.contains("m=audio 20000 RTP/SAVP "), "{text}");
    assert!(
        text.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_32 "),
        "{text}"
    );
    let taken = |line: &str| accept(offered(line).as_bytes(), &local);
    let plain = taken("m=audio 4000 RTP/AVP 0\r\n");
    assert_eq!(plain.unwrap_err(), SdpError::Cipher);
    let secured = taken(&format!("m=audio 4000 RTP/SAVP 0\r\n{CRYPTO}"));
    assert!(secured.is_ok());
    let other = taken(&format!(
        "m=audio 4000 RTP/SAVP 0\r\n{}",
        CRYPTO.replace("_32", "_80")
    ));
    assert_eq!(other.unwrap_err(), SdpError::Cipher);
}

#[test]
fn who_has_no_keys_speaks_no_encrypted_audio() {
    let plain = LocalMedia {
        keys: None,
        ..local()
    };
    let offer = offered(&format!("m=audio 4000 RTP/SAVP 0\r\n{CRYPTO}"));
    assert_eq!(
        answer(offer.as_bytes(), &plain).unwrap_err(),
        SdpError::Transport
    );
}

#[test]
fn who_must_encrypt_takes_and_offers_nothing_else() {
    let strict = LocalMedia {
        keys: local().keys.map(LocalKeys::required),
        ..local()
    };
    let plain = offered("m=audio 4000 RTP/AVP 0\r\n");
    assert_eq!(
        answer(plain.as_bytes(), &strict).unwrap_err(),
        SdpError::Plain
    );
    let both = offered(&format!(
        "m=audio 4000 RTP/AVP 0\r\nm=audio 4002 RTP/SAVP 0\r\n{CRYPTO}"
    ));
    let (parameters, text) = answer(both.as_bytes(), &strict).unwrap();
    assert!(parameters.srtp.is_some() && parameters.remote_rtp.port() == 4002);
    assert!(String::from_utf8_lossy(&text).contains("m=audio 0 RTP/AVP 0"));
    let text = String::from_utf8(offer(&strict).to_vec()).unwrap();
    assert!(
        text.contains("RTP/SAVP") && text.contains("a=crypto:1 "),
        "{text}"
    );
    let refused = "m=audio 4000 RTP/AVP 0\r\n";
    assert_eq!(
        accept(offered(refused).as_bytes(), &strict).unwrap_err(),
        SdpError::Plain
    );
}

#[test]
fn the_offerers_order_decides_unless_told_otherwise() {
    let offer = offered("m=audio 4000 RTP/AVP 18 0 9 96\r\na=rtpmap:96 opus/48000/2\r\n");
    let codec = |local: &LocalMedia| answer(offer.as_bytes(), local).unwrap().0.codec;
    assert_eq!(codec(&local()), Codec::Pcmu);
    assert_eq!(
        codec(&LocalMedia {
            prefer_own_order: true,
            ..local()
        }),
        Codec::Opus
    );
    assert_eq!(
        codec(&LocalMedia {
            codecs: vec![Codec::G722],
            ..local()
        }),
        Codec::G722
    );
}

#[test]
fn other_lines_are_refused_in_order() {
    let (_, text) = answer_to(
        "m=video 5000 RTP/AVP 31\r\nm=audio 0 RTP/AVP 0\r\nm=audio 4000 RTP/SAVP 0\r\nm=audio 4002 RTP/AVP 0\r\n\
         m=audio 4004 RTP/AVP 8\r\nm=image 6000 udptl t38\r\nm=application 7000 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    );
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        lines,
        [
            "m=video 0 RTP/AVP 31",
            "m=audio 0 RTP/AVP 0",
            "m=audio 0 RTP/SAVP 0",
            "m=audio 20000 RTP/AVP 0",
            "m=audio 0 RTP/AVP 8",
            "m=image 0 udptl t38",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ]
    );
}

#[test]
fn offers_without_a_way_say_why() {
    assert_eq!(refusal_of(""), SdpError::NoAudio);
    assert_eq!(refusal_of("m=audio 0 RTP/AVP 0\r\n"), SdpError::NoAudio);
    assert_eq!(refusal_of("m=audio 4000 RTP/SAVP 0\r\n"), SdpError::Cipher);
    assert_eq!(
        refusal_of("m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n"),
        SdpError::Transport
    );
    assert_eq!(
        refusal_of("m=audio 4000 RTP/AVP 18 3 101\r\na=rtpmap:101 telephone-event/8000\r\n"),
        SdpError::Codec
    );
    assert_eq!(
        refusal_of("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 media.example\r\n"),
        SdpError::Address
    );
    assert_eq!(
        refusal_of("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 224.0.1.1/127\r\n"),
        SdpError::Address
    );
    assert_eq!(
        refusal_of("m=audio 70000 RTP/AVP 0\r\n"),
        SdpError::Malformed
    );
    assert_eq!(answer(b"nonsense", &local()).unwrap_err().status(), 400);
    assert_eq!(SdpError::Codec.status(), 488);
}

#[test]
fn directions_are_mirrored_at_both_levels_and_hold_by_address_is_understood() {
    for (session, media, ours, word) in [
        ("", "", Direction::SendRecv, "sendrecv"),
        ("", "a=sendonly\r\n", Direction::RecvOnly, "recvonly"),
        ("", "a=recvonly\r\n", Direction::SendOnly, "sendonly"),
        ("", "a=inactive\r\n", Direction::Inactive, "inactive"),
        ("a=sendonly\r\n", "", Direction::RecvOnly, "recvonly"),
        (
            "a=inactive\r\n",
            "a=sendrecv\r\n",
            Direction::SendRecv,
            "sendrecv",
        ),
        ("", "c=IN IP4 0.0.0.0\r\n", Direction::RecvOnly, "recvonly"),
        (
            "",
            "c=IN IP4 0.0.0.0\r\na=sendonly\r\n",
            Direction::RecvOnly,
            "recvonly",
        ),
        (
            "",
            "c=IN IP4 0.0.0.0\r\na=recvonly\r\n",
            Direction::Inactive,
            "inactive",
        ),
    ] {
        let (parameters, text) = answer_to(&format!("{session}m=audio 4000 RTP/AVP 0\r\n{media}"));
        assert_eq!(parameters.direction, ours, "{session}{media}");
        assert!(text.contains(&format!("a={word}\r\n")), "{text}");
    }
    let listener = LocalMedia {
        direction: Direction::SendOnly,
        ..local()
    };
    let offer = offered("m=audio 4000 RTP/AVP 0\r\n");
    assert_eq!(
        answer(offer.as_bytes(), &listener).unwrap().0.direction,
        Direction::SendOnly
    );
}

#[test]
fn packet_times_are_rounded_and_capped() {
    for (attributes, ms) in [
        ("", 20),
        ("a=ptime:10\r\n", 10),
        ("a=ptime:40\r\na=maxptime:30\r\n", 30),
        ("a=maxptime:10\r\n", 10),
        ("a=ptime:20\r\na=maxptime:150\r\n", 20),
        ("a=ptime:999\r\n", 60),
        ("a=ptime:x\r\n", 20),
        ("a=maxptime:0\r\n", 20),
        ("a=ptime:5\r\na=maxptime:5\r\n", 10),
    ] {
        let (parameters, _) = answer_to(&format!("m=audio 4000 RTP/AVP 0\r\n{attributes}"));
        assert_eq!(parameters.ptime.ms(), ms, "{attributes}");
    }
}

#[test]
fn rtcp_has_its_own_port_where_it_is_written() {
    let rtcp = |attributes: &str| {
        answer_to(&format!("m=audio 4000 RTP/AVP 0\r\n{attributes}"))
            .0
            .remote_rtcp
            .to_string()
    };
    assert_eq!(rtcp(""), "192.0.2.7:4001");
    assert_eq!(rtcp("a=rtcp:5001\r\n"), "192.0.2.7:5001");
    assert_eq!(rtcp("a=rtcp:5001 IN IP4 192.0.2.8\r\n"), "192.0.2.8:5001");
    assert_eq!(rtcp("a=rtcp:0\r\n"), "192.0.2.7:4001");
}

#[test]
fn untidy_descriptions_are_read() {
    for text in [
        "v=0\r\nc=IN IP4 192.0.2.7\r\nm=audio 4000 RTP/AVP 0\r\n",
        "v=0\no=- 1 1 IN IP4 192.0.2.7\nc=IN IP4 192.0.2.7\nm=audio 4000 RTP/AVP 0\n",
        "v=0\r\no=Some Body 1 1 IN IP4 192.0.2.7\r\ns=\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 \r\n",
        "v=0\r\no=- 99999999999999999999999 1 IN IP4 x\r\ns=a\r\ni=b\r\nb=x\r\nc=IN IP4 192.0.2.7\r\nz=?\r\nm=audio 4000/1 RTP/AVP 0\r\ny=1\r\n",
    ] {
        let (parameters, _) = answer(text.as_bytes(), &local()).unwrap();
        assert_eq!(
            parameters.remote_rtp.to_string(),
            "192.0.2.7:4000",
            "{text}"
        );
    }
    let latin_1 = [
        &b"v=0\r\no=Jos\xe9 1 1 IN IP4 192.0.2.7\r\ns=Caff\xe9\r\nc=IN IP4 192.0.2.7\r\n"[..],
        b"m=audio 4000 RTP/AVP 0\r\n",
    ];
    assert!(answer(&latin_1.concat(), &local()).is_ok());
}

#[test]
fn ipv6_is_written_and_read() {
    let local = LocalMedia {
        address: "2001:db8::1".parse().unwrap(),
        ..local()
    };
    let offer = "v=0\r\no=- 1 1 IN IP6 2001:db8::7\r\ns=-\r\nc=IN IP6 2001:db8::7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let (parameters, text) = answer(offer.as_bytes(), &local).unwrap();
    assert_eq!(parameters.remote_rtp.to_string(), "[2001:db8::7]:4000");
    assert!(String::from_utf8_lossy(&text).contains("c=IN IP6 2001:db8::1\r\n"));
}

#[test]
fn our_offer_and_the_answer_to_it_agree() {
    let caller = LocalMedia {
        codecs: vec![Codec::Opus, Codec::Pcmu],
        rtp_port: 30_000,
        ..local()
    };
    let text = String::from_utf8(offer(&caller).to_vec()).unwrap();
    assert!(
        text.contains("m=audio 30000 RTP/AVP 107 0 101 102\r\n"),
        "{text}"
    );
    let (called, reply) = answer(text.as_bytes(), &local()).unwrap();
    let calling = accept(&reply, &caller).unwrap();
    assert_eq!((called.codec, calling.codec), (Codec::Opus, Codec::Opus));
    assert_eq!(calling.telephone_event, called.telephone_event);
    assert_eq!(calling.remote_rtp.to_string(), "198.51.100.1:20000");
    // A peer that answers with another payload type: we send its, and receive ours.
    let other = offered("m=audio 4000 RTP/AVP 120\r\na=rtpmap:120 opus/48000/2\r\na=recvonly\r\n");
    let calling = accept(other.as_bytes(), &caller).unwrap();
    assert_eq!(
        (calling.payload_type_send, calling.payload_type_receive),
        (120, 107)
    );
    // Said again within the call: what we described goes on holding for what we receive.
    let (again, _) = answer(other.as_bytes(), &caller).unwrap();
    assert_eq!(again.payload_type_receive, 120);
    let again = again.receiving_as(&calling);
    assert_eq!(
        (again.payload_type_send, again.payload_type_receive),
        (120, 107)
    );
    let pcmu = offered("m=audio 4000 RTP/AVP 0\r\n");
    let (pcmu, _) = answer(pcmu.as_bytes(), &caller).unwrap();
    assert_eq!(pcmu.receiving_as(&calling).payload_type_receive, 0);
    assert_eq!(
        (calling.direction, calling.telephone_event),
        (Direction::SendOnly, None)
    );
    assert_eq!(
        accept(offered("m=audio 0 RTP/AVP 0\r\n").as_bytes(), &caller),
        Err(SdpError::NoAudio)
    );
}

#[test]
fn broken_descriptions_never_panic() {
    let good = offered(
        "m=audio 4000 RTP/AVP 96 9 8 0 101\r\nc=IN IP4 192.0.2.9\r\na=rtpmap:96 opus/48000/2\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=maxptime:60\r\na=rtcp:4001 IN IP4 192.0.2.9\r\nm=video 5 RTP/AVP 31\r\n",
    );
    let mut state = 0x5D9_u64;
    let mut roll = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut readable = 0;
    for _ in 0..30_000 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..=roll(5) {
            if bytes.is_empty() {
                break;
            }
            let at = roll(bytes.len());
            match roll(4) {
                0 => bytes[at] = roll(256) as u8,
                1 => drop(bytes.drain(at..(at + roll(8)).min(bytes.len()).max(at))),
                2 => bytes.insert(at, b"=/: 9\r\n"[roll(7)]),
                _ => bytes.truncate(at.max(8)),
            }
        }
        readable += usize::from(answer(&bytes, &local()).is_ok());
        let _ = accept(&bytes, &local());
    }
    assert!((5_000..30_000).contains(&readable), "{readable}");
}
