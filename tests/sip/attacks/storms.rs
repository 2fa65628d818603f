//! One who is in a call, and changes it again and again.

use std::net::{SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::asterisk_life::wait_until;
use crate::listeners::Listeners;
use crate::outcomes::wait_for_participants;
use crate::server::{Meeting, Server};
use crate::wire::{Answer, Target, Wire};

#[test]
fn a_storm_of_reinvites_changes_the_audio_once_a_second_and_costs_no_call() {
    storm(&["INVITE"]);
}

#[test]
fn a_storm_of_updates_does_no_more() {
    storm(&["UPDATE", "INVITE"]);
}

/// These methods by turns, a hundred times a second.
fn storm(methods: &[&str]) {
    let server = Server::start_quiet("");
    let meeting = server.book(&json!({ "automatic_gain": false }));
    let listeners = Listeners::join(&server, &meeting, 2);
    let mut restless = Restless::join(&server, &meeting);
    wait_for_participants(&server, &meeting.id, 3);

    let began = Instant::now();
    let mut told = Told::default();
    for turn in 0..STORM {
        let method = methods[turn as usize % methods.len()];
        // On hold, and back.
        let audio = if turn % 4 < 2 { "sendonly" } else { "sendrecv" };
        let answer = restless.change(method, audio);
        told.note(&answer);
        sleep((began + EVERY * turn).saturating_duration_since(Instant::now()));
    }
    told.check(began.elapsed());

    // A pause, and it may be changed again, and is heard and hears.
    sleep(Duration::from_secs(2));
    let back = restless.change("INVITE", "sendrecv");
    assert_eq!(back.status(), 200, "{}", back.0);
    restless.listen();
    restless.talk(Duration::from_secs(2));
    let heard = restless.listen();
    assert!((90..=110).contains(&heard), "{heard} packets in 2 s");
    restless.hang_up();
    let stays = listeners.finish(&server);
    stays.expect_undisturbed();
    // The one who doesn't talk heard the first one all the while; both heard the restless one.
    assert!(stays.loud_frames > 50, "he isn't heard: {stays:?}");
    let tables = ["voicebridge_sip_dialogs", "voicebridge_legs{kind=\"sip\"}"];
    wait_until("all is over", Duration::from_secs(10), || {
        tables.iter().all(|name| server.metric(name) == 0)
    });
}

/// He who doesn't leave his call alone.
struct Restless {
    wire: Wire,
    up: Answer,
    cseq: u32,
    audio: UdpSocket,
    to: SocketAddr,
    spoken: u16,
}

impl Restless {
    fn join(server: &Server, meeting: &Meeting) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], server.sip_port));
        let target = Target {
            address,
            server: None,
        };
        let mut wire = target.udp();
        let audio = UdpSocket::bind("127.0.0.1:0").expect("a port");
        audio.set_nonblocking(true).expect("set");
        let pin = format!("X-Conf-PIN: {}", meeting.guest);
        let up = wire.call(&offer(&audio, 1, "sendrecv"), &[&pin]);
        let media = up
            .body()
            .lines()
            .find_map(|line| line.strip_prefix("m=audio "));
        let port = media.and_then(|line| line.split(' ').next()?.parse().ok());
        Self {
            wire,
            cseq: 1,
            to: SocketAddr::from(([127, 0, 0, 1], port.expect("a port in the answer"))),
            up,
            audio,
            spoken: 0,
        }
    }

    /// Offers anew; the final answer, acknowledged where it is one to an INVITE.
    fn change(&mut self, method: &str, audio: &str) -> Answer {
        self.cseq += 1;
        let offer = offer(&self.audio, self.cseq, audio);
        let more = format!("Content-Type: application/sdp\r\n\r\n{offer}");
        let request = self.up.following(method, self.cseq, &more);
        self.wire.send(request.as_bytes());
        let mine = format!("{} {method}", self.cseq);
        let answer = self.wire.wait_for(&mine, |answer| {
            answer.status() >= 200 && answer.header("CSeq") == Some(mine.as_str())
        });
        if method == "INVITE" {
            self.wire.send(answer.acknowledgement().as_bytes());
        }
        answer
    }

    /// Packets that have come since it was asked last.
    fn listen(&self) -> usize {
        let mut buffer = [0; 1_500];
        std::iter::from_fn(|| self.audio.recv(&mut buffer).ok()).count()
    }

    /// Sends a loud tone.
    fn talk(&mut self, time: Duration) {
        let began = Instant::now();
        for frame in 0..(time.as_millis() / 20) as u32 {
            let mut packet = vec![0x80, 8];
            packet.extend(self.spoken.to_be_bytes());
            packet.extend((u32::from(self.spoken) * 160).to_be_bytes());
            packet.extend([7; 4]);
            // A-law, 8 samples a period: 1 kHz.
            packet.extend([0xaa, 0xaa, 0xaa, 0xaa, 0x2a, 0x2a, 0x2a, 0x2a].repeat(20));
            self.audio.send_to(&packet, self.to).expect("sent");
            self.spoken += 1;
            sleep((began + FRAME * (frame + 1)).saturating_duration_since(Instant::now()));
        }
    }

    fn hang_up(mut self) {
        self.wire.hang_up(&self.up);
    }
}

/// How the changes were answered.
#[derive(Debug, Default)]
struct Told {
    done: u32,
    refused: u32,
}

impl Told {
    fn note(&mut self, answer: &Answer) {
        match answer.status() {
            200 => self.done += 1,
            491 => self.refused += 1,
            500 => {
                let again = answer.header("Retry-After");
                assert!(again.is_some(), "when to come again: {}", answer.0);
                self.refused += 1;
            }
            _ => panic!("{}", answer.0),
        }
    }

    fn check(&self, time: Duration) {
        let most = BURST + time.as_secs() as u32 + 1;
        assert!((BURST..=most).contains(&self.done), "{self:?} in {time:?}");
        assert_eq!(self.done + self.refused, STORM);
    }
}

fn offer(audio: &UdpSocket, version: u32, direction: &str) -> String {
    let port = audio.local_addr().expect("it is bound").port();
    format!(
        "v=0\r\no=- 1 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 8\r\na={direction}\r\n"
    )
}

const STORM: u32 = 300;
const EVERY: Duration = Duration::from_millis(10);
const FRAME: Duration = Duration::from_millis(20);
/// So many changes a call may have at once; then one a second.
const BURST: u32 = 5;
