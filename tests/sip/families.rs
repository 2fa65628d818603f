//! IPv4 and IPv6 at once: calls by either, with audio by either.

use std::net::{Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use crate::server::Server;

/// Is there IPv6 on this machine? Containers often have none.
pub(crate) fn has_ipv6() -> bool {
    let found = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !found {
        eprintln!("this machine has no IPv6: nothing is tested by it");
    }
    found
}

#[test]
fn calls_and_their_audio_come_by_either_family_in_every_mixture() {
    if !has_ipv6() {
        return;
    }
    let server = Server::of_both_families("");
    for signalling in [V4, V6] {
        for media in [V4, V6] {
            let mut phone = Phone::new(&server, signalling, media);
            let audio = phone.audio(media);
            let ok = phone.call(&audio);
            let told = format!("{signalling} with audio by {media}: {ok}");
            let family = if media == V4 { "IP4" } else { "IP6" };
            let own = media.trim_matches(['[', ']']);
            assert!(ok.contains(&format!("c=IN {family} {own}\r\n")), "{told}");
            let contact = format!("Contact: <sip:{signalling}:{}>\r\n", server.sip_port);
            assert!(ok.contains(&contact), "{told}");
            assert!(phone.hears_something(), "{told}");
            // And goes on by the other one, in another codec.
            let other = if media == V4 { V6 } else { V4 };
            phone.rtp = bound(other);
            let audio = phone.audio(other).replace("RTP/AVP 8", "RTP/AVP 0");
            let moved = phone.offer(2, &to_tag(&ok), &audio);
            let told = format!("{signalling}, then by {other}: {moved}");
            let own = other.trim_matches(['[', ']']);
            assert!(
                moved.contains(&format!(" {own}\r\nt=0 0\r\nm=audio ")),
                "{told}"
            );
            assert!(moved.contains("a=rtpmap:0 PCMU/8000"), "{told}");
            assert!(phone.hears_something(), "{told}");
            phone.hang_up(&ok);
        }
    }
}

#[test]
fn of_audio_in_both_families_one_is_taken_and_the_other_refused() {
    if !has_ipv6() {
        return;
    }
    let server = Server::of_both_families("");
    let phone = Phone::new(&server, V4, V6);
    let nowhere = "m=audio 9 RTP/AVP 8\r\nc=IN IP4 127.0.0.1\r\n";
    let ok = phone.call(&format!("{}{nowhere}", phone.audio(V6)));
    assert!(ok.contains("c=IN IP6 ::1\r\n"), "{ok}");
    assert!(ok.contains("\r\nm=audio 0 RTP/AVP 8\r\n"), "{ok}");
    assert!(phone.hears_something(), "{ok}");
    phone.hang_up(&ok);
    // A node that has no IPv6 takes the other one.
    let server = Server::start("");
    let phone = Phone::new(&server, V4, V4);
    let nowhere = "m=audio 9 RTP/AVP 8\r\nc=IN IP6 2001:db8::7\r\n";
    let ok = phone.call(&format!("{nowhere}{}", phone.audio(V4)));
    assert!(ok.contains("c=IN IP4 127.0.0.1\r\n"), "{ok}");
    assert!(ok.contains("\r\nm=audio 0 RTP/AVP 8\r\n"), "{ok}");
    assert!(phone.hears_something(), "{ok}");
    phone.hang_up(&ok);
}

/// As little of a phone as gets an answer and hears what is said.
struct Phone {
    sip: UdpSocket,
    rtp: UdpSocket,
    host: &'static str,
    server: u16,
}

impl Phone {
    fn new(server: &Server, signalling: &'static str, media: &str) -> Self {
        let sip = bound(signalling);
        sip.connect(format!("{signalling}:{}", server.sip_port))
            .expect("an address");
        Self {
            sip,
            rtp: bound(media),
            host: signalling,
            server: server.sip_port,
        }
    }

    /// A line of audio to where it listens.
    fn audio(&self, media: &str) -> String {
        let port = self.rtp.local_addr().expect("bound").port();
        let family = if media == V4 { "IP4" } else { "IP6" };
        let own = media.trim_matches(['[', ']']);
        format!("m=audio {port} RTP/AVP 8\r\nc=IN {family} {own}\r\na=ptime:20\r\n")
    }

    /// Calls with these lines of audio: the answer, which it has acknowledged.
    fn call(&self, lines: &str) -> String {
        self.offer(1, "", lines)
    }

    fn offer(&self, cseq: u32, tag: &str, lines: &str) -> String {
        let sdp = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{lines}");
        let body = format!(
            "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        let ok = self.ask(&self.request("INVITE", cseq, tag, &body));
        assert!(ok.starts_with("SIP/2.0 200"), "{ok}");
        let ack = self.request("ACK", cseq, &to_tag(&ok), NO_BODY);
        self.sip.send(ack.as_bytes()).expect("sent");
        ok
    }

    fn hears_something(&self) -> bool {
        let until = Instant::now() + PATIENCE;
        let mut packet = [0; 1_500];
        while Instant::now() < until {
            if self.rtp.recv(&mut packet).is_ok_and(|length| length > 12) {
                return true;
            }
        }
        false
    }

    fn hang_up(&self, ok: &str) {
        let answer = self.ask(&self.request("BYE", 3, &to_tag(ok), NO_BODY));
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    }

    fn request(&self, method: &str, cseq: u32, tag: &str, rest: &str) -> String {
        let here = self.sip.local_addr().expect("bound");
        let (host, port) = (self.host, self.server);
        let name = here.port();
        format!(
            "{method} sip:1000@{host}:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{method}{cseq}m{name};rport\r\n\
             From: <sip:phone@{here}>;tag=t{name}\r\nTo: <sip:1000@{host}:{port}>{tag}\r\nCall-ID: c{name}@{host}\r\n\
             CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContact: <sip:phone@{here}>\r\n{rest}"
        )
    }

    /// Sends it until its final answer is there.
    fn ask(&self, request: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let cseq = request.lines().find(|line| line.starts_with("CSeq: "));
        let mut packet = [0; 8_192];
        while Instant::now() < until {
            self.sip.send(request.as_bytes()).expect("sent");
            while let Ok(length) = self.sip.recv(&mut packet) {
                let answer = String::from_utf8_lossy(&packet[..length]).into_owned();
                if answer.starts_with("SIP/2.0 ")
                    && !answer.starts_with("SIP/2.0 1")
                    && cseq.is_some_and(|cseq| answer.contains(cseq))
                {
                    return answer;
                }
            }
        }
        panic!("no answer to {request}");
    }
}

fn bound(host: &str) -> UdpSocket {
    let socket = UdpSocket::bind(format!("{host}:0")).expect("bound");
    let patience = Some(Duration::from_millis(500));
    socket.set_read_timeout(patience).expect("set");
    socket
}

fn to_tag(answer: &str) -> String {
    let to = answer.lines().find(|line| line.starts_with("To: "));
    let tag = to.and_then(|to| to.split_once(";tag="));
    format!(";tag={}", tag.expect("a tag").1)
}

const V4: &str = "127.0.0.1";
const V6: &str = "[::1]";
const NO_BODY: &str = "Content-Length: 0\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(20);
