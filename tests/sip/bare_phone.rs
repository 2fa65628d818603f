//! A telephone of two sockets: dials, keys in by SIP INFO as fast as it is answered, and knows by their bytes the
//! recordings that it hears. For calls by the thousand.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use voicebridge::booking::SpokenDigits;
use voicebridge::call::{Phrase, Speaker as _};
use voicebridge::media::codec::Codec;
use voicebridge::prompts::{PromptFolders, Prompts};
use voicebridge::units::{Language, Voice};

/// What is recognised of what is said: each frame that one recording alone has.
pub(crate) struct Ear {
    frames: HashMap<Box<[u8]>, (Word, usize)>,
}

/// What was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    EnterPin,
    WrongPin,
    TryAgain,
    Goodbye,
    KeyInDigits,
    Alone,
    OneOther,
    Ended,
    Digit(u8),
}

impl Ear {
    pub(crate) fn new() -> Self {
        let (prompts, _) = Prompts::load(&PromptFolders::default());
        let mut words = vec![
            (Word::EnterPin, Phrase::EnterPin),
            (Word::WrongPin, Phrase::WrongPin),
            (Word::TryAgain, Phrase::TryAgainLater),
            (Word::Goodbye, Phrase::Goodbye),
            (Word::KeyInDigits, Phrase::KeyInDigits),
            (Word::Alone, Phrase::OnlyParticipant),
            (Word::OneOther, Phrase::OthersPresent(1)),
            (Word::Ended, Phrase::MeetingEnded),
        ];
        words.extend((0..10).map(|n| (Word::Digit(n), Phrase::Digits(SpokenDigits::new(11 * n)))));
        let mut all: HashMap<Box<[u8]>, Vec<(Word, usize)>> = HashMap::new();
        for (word, phrase) in words {
            let said = prompts.say(
                &Voice::everybodys(Language::English),
                &[phrase],
                Codec::Pcma,
            );
            let first = said.first().expect("it is said");
            for (index, frame) in (0..first.frames()).filter_map(|n| Some((n, first.frame(n)?))) {
                all.entry(frame.into()).or_default().push((word, index));
            }
        }
        let unique = |(frame, places): (Box<[u8]>, Vec<_>)| match places.as_slice() {
            [place] => Some((frame, *place)),
            _ => None,
        };
        Self {
            frames: all.into_iter().filter_map(unique).collect(),
        }
    }
}

/// A call that is up, or was.
pub(crate) struct BarePhone<'a> {
    ear: &'a Ear,
    sip: UdpSocket,
    rtp: UdpSocket,
    here: SocketAddr,
    media: u16,
    server: u16,
    head: String,
    to_tag: String,
    cseq: u32,
    /// Where it is to send audio to.
    pub(crate) audio_port: u16,
    spoken: u16,
    /// The BYE that ended it, without what differs from call to call.
    pub(crate) ended: Option<String>,
    heard: Vec<(Word, usize, Instant)>,
}

impl<'a> BarePhone<'a> {
    /// Dials `user` from `number`, with further headers, until it is answered. A node that is short of time, as
    /// where others build meanwhile, says so; then it dials again.
    pub(crate) fn dial(ear: &'a Ear, server: u16, user: &str, number: &str, more: &str) -> Self {
        for _ in 0..40 {
            match Self::try_to_dial(ear, server, user, number, more) {
                Ok(phone) => return phone,
                Err(status) => assert!(status.starts_with("503 "), "not answered: {status}"),
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        panic!("no capacity for 20 s");
    }

    /// The same, once. Else the status that it is refused with.
    pub(crate) fn try_to_dial(
        ear: &'a Ear,
        server: u16,
        user: &str,
        number: &str,
        more: &str,
    ) -> Result<Self, String> {
        let sip = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let rtp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        rtp.set_nonblocking(true).expect("set");
        let address = |socket: &UdpSocket| socket.local_addr().expect("it is bound");
        let (here, media) = (address(&sip), address(&rtp).port());
        let id = format!("{number}-{}", here.port());
        let head = format!(
            "From: <sip:{number}@{here}>;tag=a\r\nCall-ID: {id}-{}\r\nMax-Forwards: 70\r\nContact: <sip:{number}@{here}>\r\n",
            media
        );
        let mut phone = Self {
            ear,
            sip,
            rtp,
            here,
            media,
            server,
            head,
            to_tag: String::new(),
            cseq: 1,
            audio_port: 0,
            spoken: 0,
            ended: None,
            heard: Vec::new(),
        };
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {media} RTP/AVP 8\r\n"
        );
        let body = format!("{more}Content-Type: application/sdp\r\n");
        let uri = format!("sip:{user}@127.0.0.1:{server}");
        let invite = phone.request("INVITE", &uri, &body, &sdp);
        let answer = phone.ask(&invite);
        let status = answer.lines().next().unwrap_or_default();
        let status = status.strip_prefix("SIP/2.0 ").unwrap_or_default();
        if !status.starts_with("200 ") {
            let to = header(&answer, "To");
            phone.to_tag = to
                .rsplit_once(";tag=")
                .map(|(_, tag)| format!(";tag={tag}"))
                .unwrap_or_default();
            // Of the same transaction (RFC 3261 section 17.1.1.3).
            let ack = phone
                .request("ACK", &uri, "", "")
                .replace("z9hG4bKACK", "z9hG4bKINVITE");
            phone.send(&ack);
            return Err(status.to_owned());
        }
        let to = header(&answer, "To");
        let tag = to.split_once(";tag=").map(|(_, tag)| tag.trim().to_owned());
        phone.to_tag = format!(";tag={}", tag.expect("a tag"));
        let audio = answer
            .lines()
            .find_map(|line| line.strip_prefix("m=audio "));
        let port = audio.and_then(|line| line.split(' ').next()?.parse().ok());
        phone.audio_port = port.expect("audio in the answer");
        let ack = phone.request("ACK", &uri, "", "");
        phone.send(&ack);
        Ok(phone)
    }

    /// Keys in, each once the one before has arrived; when the last was sent.
    pub(crate) fn press(&mut self, keys: &str) -> Instant {
        let mut sent = Instant::now();
        for key in keys.chars() {
            if self.ended.is_some() {
                break;
            }
            self.cseq += 1;
            let uri = format!("sip:1000@127.0.0.1:{}", self.server);
            let body = format!("Signal={key}\r\nDuration=100\r\n");
            let kind = "Content-Type: application/dtmf-relay\r\n";
            let info = self.request("INFO", &uri, kind, &body);
            sent = Instant::now();
            self.ask(&info);
        }
        sent
    }

    /// Listens until a word is said that counts, at most so long: when that was.
    pub(crate) fn wait_for(
        &mut self,
        patience: Duration,
        counts: impl Fn(Word) -> bool,
    ) -> Option<(Word, Instant)> {
        let until = Instant::now() + patience;
        let mut from = 0;
        while Instant::now() < until && self.ended.is_none() {
            self.listen();
            let mut new = self.heard[from..].iter();
            if let Some((word, _, at)) = new.find(|(word, ..)| counts(*word)) {
                return Some((*word, *at));
            }
            from = self.heard.len();
            self.take_requests(Duration::from_millis(2));
        }
        None
    }

    /// The two digits that are being said, once both were heard to their end.
    pub(crate) fn hear_digits(&mut self) -> Option<String> {
        let until = Instant::now() + Duration::from_secs(12);
        while Instant::now() < until && self.ended.is_none() {
            self.listen();
            let digits = self.digits();
            let quiet = self
                .heard
                .last()
                .is_some_and(|(.., at)| at.elapsed() > Duration::from_millis(150));
            if digits.len() == 2 && quiet {
                return Some(digits);
            }
            self.take_requests(Duration::from_millis(2));
        }
        None
    }

    fn digits(&self) -> String {
        let mut digits = String::new();
        let mut last = None;
        for (word, index, _) in &self.heard {
            if let Word::Digit(digit) = word {
                let again = last.is_some_and(|(before, at)| before == *digit && at < *index);
                if !again {
                    digits.push(char::from(b'0' + digit));
                }
                last = Some((*digit, *index));
            }
        }
        digits
    }

    /// What was said since it was asked last, word by word.
    pub(crate) fn heard(&mut self) -> Vec<Word> {
        self.listen();
        let mut words: Vec<Word> = self.heard.drain(..).map(|(word, ..)| word).collect();
        words.dedup();
        words
    }

    /// Sends a quarter of a second of silence.
    pub(crate) fn speak(&mut self) {
        for _ in 0..12 {
            let mut packet = vec![0x80, 8];
            packet.extend(self.spoken.to_be_bytes());
            packet.extend((u32::from(self.spoken) * 160).to_be_bytes());
            packet.extend([7; 4]);
            packet.extend([0x55; 160]);
            let to = ("127.0.0.1", self.audio_port);
            self.rtp.send_to(&packet, to).expect("sent");
            self.spoken += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn hang_up(mut self) {
        if self.ended.is_none() {
            self.cseq += 1;
            let uri = format!("sip:1000@127.0.0.1:{}", self.server);
            let bye = self.request("BYE", &uri, "", "");
            self.ask(&bye);
        }
    }

    /// Waits until the other side has hung up.
    pub(crate) fn wait_for_end(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.ended.is_none() && Instant::now() < until {
            self.listen();
            self.take_requests(Duration::from_millis(10));
        }
    }

    fn listen(&mut self) {
        let mut packet = [0; 1_500];
        while let Ok(length) = self.rtp.recv(&mut packet) {
            let payload = packet.get(12..length).unwrap_or_default();
            if let Some((word, index)) = self.ear.frames.get(payload) {
                self.heard.push((*word, *index, Instant::now()));
            }
        }
    }

    fn request(&self, method: &str, uri: &str, more: &str, body: &str) -> String {
        let (here, port) = (self.here, self.media);
        let (head, tag, cseq) = (&self.head, &self.to_tag, self.cseq);
        let to = format!("sip:1000@127.0.0.1:{}", self.server);
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{method}{cseq}p{port}\r\n{head}To: <{to}>{tag}\r\n\
             CSeq: {cseq} {method}\r\n{more}Content-Length: {length}\r\n\r\n{body}",
            length = body.len()
        )
    }

    fn send(&self, message: &str) {
        let sent = self
            .sip
            .send_to(message.as_bytes(), ("127.0.0.1", self.server));
        sent.expect("sent");
    }

    /// Sends it, again and again, until its final answer is there.
    fn ask(&mut self, message: &str) -> String {
        let cseq = header(message, "CSeq");
        for _ in 0..20 {
            self.send(message);
            let until = Instant::now() + Duration::from_millis(500);
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                self.listen();
                let Some(received) = self.receive(left.min(Duration::from_millis(20))) else {
                    continue;
                };
                if received.starts_with("SIP/2.0") {
                    if header(&received, "CSeq") == cseq && !received.starts_with("SIP/2.0 1") {
                        return received;
                    }
                } else {
                    self.answer(&received);
                }
            }
        }
        panic!("no answer within ten seconds to {cseq}");
    }

    fn take_requests(&mut self, patience: Duration) {
        if let Some(received) = self.receive(patience)
            && !received.starts_with("SIP/2.0")
        {
            self.answer(&received);
        }
    }

    fn receive(&self, patience: Duration) -> Option<String> {
        let mut packet = [0; 8_192];
        let patience = patience.max(Duration::from_millis(1));
        self.sip.set_read_timeout(Some(patience)).expect("set");
        let length = self.sip.recv(&mut packet).ok()?;
        Some(String::from_utf8_lossy(&packet[..length]).into_owned())
    }

    /// Says yes to whatever is asked; a BYE ends the call.
    fn answer(&mut self, request: &str) {
        let kept = ["Via", "From", "To", "Call-ID", "CSeq"];
        let headers: String = kept
            .iter()
            .map(|name| format!("{name}: {}\r\n", header(request, name)))
            .collect();
        self.send(&format!(
            "SIP/2.0 200 OK\r\n{headers}Content-Length: 0\r\n\r\n"
        ));
        if request.starts_with("BYE") {
            let telling = |line: &&str| line.starts_with("Reason") || line.starts_with("BYE");
            let lines: Vec<&str> = request.lines().filter(telling).collect();
            let port = format!(":{}", self.here.port());
            let number = header(request, "To")
                .split_once('@')
                .map(|(number, _)| number.to_owned());
            let ended = lines.join(" ").replace(&port, "");
            let number = number.unwrap_or_default().replace('<', "");
            self.ended = Some(ended.replace(&number, "sip:x"));
        }
    }
}

fn header(message: &str, name: &str) -> String {
    let mut lines = message.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_default().to_owned()
}
