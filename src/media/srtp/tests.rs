//! The RFCs' own vectors, and what attackers and lossy networks do.

use super::cipher::Protection;
use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// RFC 3711 appendix B.3.
fn key(suite: Suite) -> MasterKey {
    let material = bytes("E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
    let mut long = bytes("f0f04914b513f2763a1b1fa130f10e29 98f6f6e43e4309d1e622a0e332b9f1b6");
    long.extend(bytes("3b04803de51ee7c96423ab5b78d2"));
    MasterKey::new(
        suite,
        if suite.key_bytes() == 16 {
            &material
        } else {
            &long
        },
    )
    .unwrap()
}

fn rtp(sequence: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 0x0F];
    packet.extend(sequence.to_be_bytes());
    packet.extend(0xDECA_FBAD_u32.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

fn protected(sender: &mut SrtpSender, packet: &[u8]) -> Vec<u8> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + OVERHEAD_MAX, 0);
    let length = sender.protect_rtp(&mut buffer, packet.len()).unwrap();
    buffer.truncate(length);
    buffer
}

#[test]
fn session_keys_are_those_of_the_rfcs() {
    let short = Protection::rtp(&key(Suite::AesCm128HmacSha1Tag80));
    assert_eq!(short.salt().to_vec(), bytes("30CBBC08863D8C85D49DB34A9AE1"));
    let long = Protection::rtp(&key(Suite::AesCm256HmacSha1Tag80));
    assert_eq!(long.salt().to_vec(), bytes("fa31791685ca444a9e07c6c64e93"));
}

/// The widely used reference packet for the key of RFC 3711 appendix B.3.
#[test]
fn a_packet_is_protected_to_the_bit() {
    let mut sender = SrtpSender::new(&key(Suite::AesCm128HmacSha1Tag80));
    let packet = rtp(0x1234, 0xCAFE_BABE, &[0xAB; 16]);
    let expected =
        bytes("800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb");
    assert_eq!(protected(&mut sender, &packet), expected);
    let mut receiver = SrtpReceiver::new(&key(Suite::AesCm128HmacSha1Tag80));
    let mut received = expected;
    assert_eq!(receiver.open_rtp(&mut received), Ok(packet.len()));
    assert_eq!(received[..packet.len()], packet);
}

#[test]
fn what_one_side_protects_the_other_lays_open_in_every_suite() {
    for suite in Suite::ALL {
        assert_eq!(Suite::named(suite.name()), Some(suite));
        let mut sender = SrtpSender::new(&key(suite));
        let mut receiver = SrtpReceiver::new(&key(suite));
        for sequence in (0xFFF0..=0xFFFF).chain(0..40) {
            let packet = rtp(sequence, 7, &[sequence as u8; 160]);
            let mut wire = protected(&mut sender, &packet);
            assert_ne!(wire[12..172], packet[12..]);
            let length = receiver.open_rtp(&mut wire).unwrap();
            assert_eq!(wire[..length], packet);
        }
        let mut report = [0x80, 200, 0, 6, 0, 0, 0, 9].to_vec();
        report.extend([0x5A; 20 + OVERHEAD_MAX]);
        let length = sender.protect_rtcp(&mut report, 28).unwrap();
        assert_eq!(length, 28 + 4 + 10);
        assert_eq!(receiver.open_rtcp(&mut report[..length]), Ok(28));
        assert_eq!(report[8..28], [0x5A; 20]);
    }
}

#[test]
fn the_header_extension_stays_readable() {
    let mut packet = rtp(5, 7, &[0xBE, 0xDE, 0, 1, 0x10, 0x7F, 0, 0, 1, 2, 3, 4]);
    packet[0] |= 0x10;
    let wire = protected(
        &mut SrtpSender::new(&key(Suite::AesCm128HmacSha1Tag80)),
        &packet,
    );
    assert_eq!(wire[..20], packet[..20]);
    assert_ne!(wire[20..24], packet[20..]);
}

#[test]
fn a_changed_bit_anywhere_is_found_and_leaves_no_trace() {
    let mut sender = SrtpSender::new(&key(Suite::AesCm128HmacSha1Tag80));
    let mut receiver = SrtpReceiver::new(&key(Suite::AesCm128HmacSha1Tag80));
    let wire = protected(&mut sender, &rtp(100, 7, &[1; 20]));
    for position in 0..wire.len() {
        let mut forged = wire.clone();
        forged[position] ^= 0x04;
        assert!(receiver.open_rtp(&mut forged).is_err(), "{position}");
    }
    assert!(receiver.streams.iter().all(Option::is_none));
    assert!(receiver.open_rtp(&mut wire.clone()).is_ok());
    assert_eq!(
        receiver.open_rtp(&mut wire.clone()),
        Err(SrtpError::Replayed)
    );
}

#[test]
fn reordered_packets_are_taken_once_also_over_a_wrap() {
    let mut sender = SrtpSender::new(&key(Suite::AesCm128HmacSha1Tag32));
    let mut receiver = SrtpReceiver::new(&key(Suite::AesCm128HmacSha1Tag32));
    let mut wire: Vec<_> = (0..64_u16)
        .map(|n| protected(&mut sender, &rtp(n.wrapping_sub(20), 7, &[n as u8; 20])))
        .collect();
    wire[1..].reverse();
    wire[30..].rotate_left(9);
    for packet in &wire {
        assert!(receiver.open_rtp(&mut packet.clone()).is_ok());
    }
    for packet in &wire {
        assert_eq!(
            receiver.open_rtp(&mut packet.clone()),
            Err(SrtpError::Replayed)
        );
    }
}

#[test]
fn strangers_can_neither_fill_nor_push_out_the_streams_in_use() {
    let mut sender = SrtpSender::new(&key(Suite::AesCm128HmacSha1Tag80));
    let mut receiver = SrtpReceiver::new(&key(Suite::AesCm128HmacSha1Tag80));
    let first = protected(&mut sender, &rtp(1, 7, &[1; 20]));
    assert!(receiver.open_rtp(&mut first.clone()).is_ok());
    for ssrc in 100..400 {
        let mut stranger = rtp(1, ssrc, &[9; 30]);
        assert_eq!(receiver.open_rtp(&mut stranger), Err(SrtpError::Forged));
    }
    assert_eq!(
        receiver.open_rtp(&mut first.clone()),
        Err(SrtpError::Replayed)
    );
}

/// Whoever has recorded a call may send any of it again, and what is genuine moves where we send to.
#[test]
fn what_was_recorded_of_a_stream_that_the_peer_has_left_is_not_taken_again() {
    let mut sender = SrtpSender::new(&key(Suite::AesCm128HmacSha1Tag80));
    let mut receiver = SrtpReceiver::new(&key(Suite::AesCm128HmacSha1Tag80));
    let mut recorded = Vec::new();
    for ssrc in [7, 8, 9, 7, 10, 11, 12] {
        for sequence in 0..5 {
            let sequence = 10 * recorded.len() as u16 + sequence;
            recorded.push(protected(&mut sender, &rtp(sequence, ssrc, &[1; 20])));
        }
    }
    for (place, packet) in recorded.iter().enumerate() {
        assert!(receiver.open_rtp(&mut packet.clone()).is_ok());
        // The first of a stream that had been left may have been kept back by somebody.
        assert_eq!(receiver.is_newest(), place != 15);
    }
    for packet in &recorded {
        let again = receiver.open_rtp(&mut packet.clone());
        assert_eq!(again, Err(SrtpError::Replayed));
    }
}

#[test]
fn a_packet_that_was_overtaken_is_taken_and_not_the_newest() {
    let mut sender = SrtpSender::new(&key(Suite::AesCm128HmacSha1Tag80));
    let mut receiver = SrtpReceiver::new(&key(Suite::AesCm128HmacSha1Tag80));
    let numbers = [(10, 7), (11, 7), (12, 7), (1, 8), (13, 7)];
    let mut sent =
        numbers.map(|(sequence, ssrc)| protected(&mut sender, &rtp(sequence, ssrc, &[1; 20])));
    sent.swap(1, 2);
    let newest = sent.map(|mut packet| {
        assert!(receiver.open_rtp(&mut packet).is_ok());
        receiver.is_newest()
    });
    assert_eq!(newest, [true, true, false, true, false]);
}

#[test]
fn nothing_that_comes_makes_it_panic() {
    let mut receiver = SrtpReceiver::new(&key(Suite::AesCm128HmacSha1Tag80));
    let mut state = 1_u32;
    for length in 0..2_000 {
        let mut packet: Vec<u8> = (0..length % 200)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        assert!(receiver.open_rtp(&mut packet).is_err());
        assert!(receiver.open_rtcp(&mut packet).is_err());
    }
}

#[test]
fn a_key_of_the_wrong_length_is_none_and_keys_are_never_shown() {
    assert!(MasterKey::new(Suite::AesCm128HmacSha1Tag80, &[0; 29]).is_none());
    assert!(MasterKey::new(Suite::AesCm256HmacSha1Tag80, &[0; 30]).is_none());
    assert_eq!(format!("{:?}", key(Suite::AesCm128HmacSha1Tag80)), "***");
}

fn wire(srtp: &mut Srtp, packet: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    srtp.protect(Kind::Rtp, packet, |bytes| sent = bytes.to_vec());
    sent
}

/// A phone that offers anew with the keys there are must not be taken for a new one.
#[test]
fn each_direction_goes_on_under_its_key_and_begins_anew_under_another() {
    let suite = Suite::AesCm128HmacSha1Tag80;
    let (a, b) = (key(suite), MasterKey::new(suite, &[5; 30]).unwrap());
    let keys = SrtpKeys { ours: a, theirs: b };
    let mut peer = Srtp::new(&SrtpKeys { ours: b, theirs: a });
    let mut srtp = Srtp::new(&keys);
    // Over a wrap, so that the counter matters.
    for sequence in [0xFFFF, 0] {
        let sent = wire(&mut srtp, &rtp(sequence, 7, &[1; 20]));
        assert_eq!(peer.open(Kind::Rtp, &sent, |_, _| ()), Ok(()));
    }
    let heard = wire(&mut peer, &rtp(1, 9, &[2; 20]));
    assert_eq!(srtp.open(Kind::Rtp, &heard, |_, _| ()), Ok(()));

    let mut anew = Srtp::new(&keys);
    anew.go_on_from(&mut srtp);
    assert_eq!(
        anew.open(Kind::Rtp, &heard, |_, _| ()),
        Err(SrtpError::Replayed)
    );
    let sent = wire(&mut anew, &rtp(1, 7, &[3; 20]));
    let mut plain = Vec::new();
    assert_eq!(
        peer.open(Kind::Rtp, &sent, |bytes, _| plain = bytes.to_vec()),
        Ok(())
    );
    assert_eq!(plain, rtp(1, 7, &[3; 20]));

    let mut rekeyed = Srtp::new(&SrtpKeys { ours: b, theirs: b });
    rekeyed.go_on_from(&mut anew);
    let forged = Err(SrtpError::Forged);
    let sent = wire(&mut rekeyed, &rtp(2, 7, &[4; 20]));
    assert_eq!(peer.open(Kind::Rtp, &sent, |_, _| ()), forged);
}

#[test]
fn what_is_larger_than_any_packet_is_neither_sent_nor_taken() {
    let keys = key(Suite::AesCm128HmacSha1Tag80);
    let mut srtp = Srtp::new(&SrtpKeys {
        ours: keys,
        theirs: keys,
    });
    assert!(wire(&mut srtp, &[0x80; 1_700]).is_empty());
    let malformed = Err(SrtpError::Malformed);
    assert_eq!(srtp.open(Kind::Rtp, &[0x80; 1_700], |_, _| ()), malformed);
}

#[test]
#[ignore = "a measurement: what a flood of bad packets costs"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn a_million_forged_packets_cost_little_and_leave_no_trace() {
    let mut sender = SrtpSender::new(&key(Suite::AesCm128HmacSha1Tag80));
    let mut receiver = SrtpReceiver::new(&key(Suite::AesCm128HmacSha1Tag80));
    let genuine = protected(&mut sender, &rtp(1, 7, &[1; 160]));
    assert!(receiver.open_rtp(&mut genuine.clone()).is_ok());
    let begun = std::time::Instant::now();
    let mut packet = genuine.clone();
    for n in 0..1_000_000_u32 {
        packet.copy_from_slice(&genuine);
        packet[2..4].copy_from_slice(&(n as u16 | 2).to_be_bytes());
        packet[8..12].copy_from_slice(&(n % 5_000).to_be_bytes());
        assert_eq!(receiver.open_rtp(&mut packet), Err(SrtpError::Forged));
    }
    let micros = begun.elapsed().as_secs_f64();
    eprintln!("{micros:.2} us each: {micros:.1} % of a core at 10,000 a second");
    assert_eq!(receiver.streams.iter().flatten().count(), 1);
}
