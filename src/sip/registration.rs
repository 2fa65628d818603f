//! One registration with a trunk's registrar (RFC 3261 section 10, the client's side): asked for,
//! refreshed in time, and asked for again with growing pauses where it fails.
//!
//! Says when to ask and what an answer means; the endpoint writes and sends.

use std::time::{Duration, Instant};

use crate::sip::address::{NameAddr, Target};
use crate::sip::digest::{Challenge, Credentials};
use crate::sip::message::{Headers, Response};
use crate::sip::service_route::service_route;
use crate::sip::timers::earliest;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Registration {
    credentials: Option<Credentials>,
    /// Whose challenges are answered; `None`: the registrar's, whatever it is called.
    realm: Option<String>,
    challenge: Option<Challenge>,
    /// The realm of the last challenge whose answer was taken.
    proven: Option<String>,
    /// Seconds that we ask for.
    wanted: u32,
    state: State,
    /// Until when the registrar knows us.
    good_until: Option<Instant>,
    /// The way on from the registrar for our calls (RFC 3608).
    service_route: Vec<String>,
    failures: u32,
    /// The last answer was a refusal that another server would give as well.
    is_refused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing leads to the registrar; once something does, it is not asked before this.
    Cut { not_before: Option<Instant> },
    /// To be asked at this time.
    Waiting(Instant),
    /// Asked; `answered`: with credentials that weren't tried before.
    Asked { answered: bool },
    /// Asked to forget us; `answered`: as above.
    Leaving { answered: bool },
    /// It has forgotten us, or never knew us.
    Left,
}

/// What an answer of the registrar means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Ask again at once.
    Again,
    /// It knows us.
    Registered,
    /// It doesn't; when to ask again is set.
    Refused(Refused),
    /// That we have left, or nothing.
    Nothing,
}

/// Why a registrar doesn't know us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It doesn't take user and password, or wants some and has none from us.
    Credentials,
    /// It asks in a way that we can't answer.
    Challenge,
    /// It asks for the credentials of another realm than they are for.
    Realm,
    /// Its final answer, or 408 where none came.
    Status(u16),
    /// It said yes, but not to our address.
    OtherContact,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Credentials => f.write_str("user and password are not taken"),
            Self::Challenge => f.write_str("asks for credentials in a way that isn't known here"),
            Self::Realm => f.write_str("asks for another realm than sip.trunk.realm"),
            Self::Status(408) => f.write_str("no answer"),
            Self::Status(status) => write!(f, "answered {status}"),
            Self::OtherContact => f.write_str("took the registration for another address"),
        }
    }
}

impl Registration {
    pub(crate) const fn new(credentials: Option<Credentials>, realm: Option<String>) -> Self {
        Self {
            credentials,
            realm,
            challenge: None,
            proven: None,
            wanted: EXPIRES_WANTED,
            state: State::Cut { not_before: None },
            good_until: None,
            service_route: Vec::new(),
            failures: 0,
            is_refused: false,
        }
    }

    /// There is a way to the registrar; `is_elsewhere`: to another server of its than before, which is told of us at
    /// once. After a refusal another way changes nothing: the pause is kept.
    pub(crate) fn connected(&mut self, now: Instant, is_elsewhere: bool) {
        if is_elsewhere {
            self.service_route.clear();
        }
        match self.state {
            State::Cut { not_before } => {
                let not_before = not_before.filter(|_| !is_elsewhere || self.is_refused);
                self.state = State::Waiting(not_before.map_or(now, |at| at.max(now)));
            }
            State::Waiting(_) | State::Asked { .. } if is_elsewhere && !self.is_refused => {
                self.state = State::Waiting(now);
            }
            State::Waiting(_) | State::Asked { .. } | State::Leaving { .. } | State::Left => {}
        }
    }

    /// The way is gone.
    pub(crate) fn cut(&mut self) {
        let was_good = self.good_until.take().is_some();
        self.state = match self.state {
            State::Leaving { .. } | State::Left => State::Left,
            // Who refuses and hangs up is left in peace as long as who only refuses.
            State::Waiting(at) if !was_good => State::Cut {
                not_before: Some(at),
            },
            State::Cut { .. } => self.state,
            State::Waiting(_) | State::Asked { .. } => State::Cut { not_before: None },
        };
    }

    /// We take no more calls: the next request takes the registration back. False where there is none.
    pub(crate) fn leave(&mut self) -> bool {
        let known = self.good_until.take().is_some();
        self.state = if known {
            State::Leaving { answered: false }
        } else {
            State::Left
        };
        known
    }

    /// Does the registrar know us?
    pub(crate) fn is_registered(&self, now: Instant) -> bool {
        self.good_until.is_some_and(|until| now < until)
    }

    /// The realm that the registrar has challenged us for and taken our answer.
    pub(crate) fn proven_realm(&self) -> Option<&str> {
        self.proven.as_deref()
    }

    /// The routes that our calls' first requests are to be given; they hold as long as the registration.
    pub(crate) fn service_route(&self, now: Instant) -> &[String] {
        if self.is_registered(now) {
            &self.service_route
        } else {
            &[]
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = match self.state {
            State::Waiting(at) => Some(at),
            State::Cut { .. } | State::Asked { .. } | State::Leaving { .. } | State::Left => None,
        };
        earliest([due, self.good_until])
    }

    /// True: ask now.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.good_until.is_some_and(|until| until <= now) {
            self.good_until = None;
        }
        let due = matches!(self.state, State::Waiting(at) if at <= now);
        if due {
            self.state = State::Asked { answered: false };
        }
        due
    }

    /// Seconds to ask for; none once we leave.
    pub(crate) const fn expires(&self) -> u32 {
        match self.state {
            State::Leaving { .. } | State::Left => 0,
            State::Cut { .. } | State::Waiting(_) | State::Asked { .. } => self.wanted,
        }
    }

    /// The header with our credentials, once the registrar has asked for them.
    pub(crate) fn authorization(
        &mut self,
        method: &str,
        uri: &str,
        cnonce: &str,
    ) -> Option<(&'static str, String)> {
        let credentials = self.credentials.as_ref()?;
        let challenge = self.challenge.as_mut()?;
        Some(challenge.answer(credentials, method, uri, cnonce))
    }

    /// The final answer to what was asked last; `ours` is the URI of our Contact, `random` below 1,000.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        response: &Response,
        ours: &str,
        random: u64,
    ) -> Meaning {
        match response.status {
            200..300 => self.accepted(now, response, ours, random),
            401 | 407 => self.challenged(now, response, random),
            423 => self.too_brief(now, response, random),
            status => {
                let after = retry_after(&response.headers);
                self.refused(now, Refused::Status(status), after, random)
            }
        }
    }

    /// No answer came, or the way broke.
    pub(crate) fn unanswered(&mut self, now: Instant, random: u64) -> Meaning {
        self.refused(now, Refused::Status(408), None, random)
    }

    fn accepted(&mut self, now: Instant, response: &Response, ours: &str, random: u64) -> Meaning {
        if self.is_leaving() {
            self.state = State::Left;
            return Meaning::Nothing;
        }
        let Some(granted) = granted(&response.headers, ours, self.wanted) else {
            return self.refused(now, Refused::OtherContact, None, random);
        };
        (self.failures, self.is_refused) = (0, false);
        self.service_route = service_route(&response.headers);
        if let Some(challenge) = &self.challenge {
            self.proven = Some(challenge.realm.clone());
        }
        let granted = Duration::from_secs(granted.clamp(EXPIRES_MIN, EXPIRES_MAX).into());
        self.good_until = Some(now + granted);
        // Between half and 90 % of the time, so that a registrar that comes back isn't asked by all at once.
        let share = 500 + 400 * random as u32 / 1_000;
        self.state = State::Waiting(now + granted * share / 1_000);
        Meaning::Registered
    }

    fn challenged(&mut self, now: Instant, response: &Response, random: u64) -> Meaning {
        let find = |realm| Challenge::find(response.status, &response.headers, realm);
        let Some(challenge) = find(self.realm.as_deref()) else {
            let why = match find(None) {
                Some(_) => Refused::Realm,
                None => Refused::Challenge,
            };
            return self.refused(now, why, None, random);
        };
        let tried = matches!(
            self.state,
            State::Asked { answered: true } | State::Leaving { answered: true }
        );
        if self.credentials.is_none() || (tried && !challenge.stale) {
            self.challenge = None;
            return self.refused(now, Refused::Credentials, None, random);
        }
        // Whoever goes on calling our answers stale is not asked for ever.
        if tried && self.failures >= STALE_MAX {
            return self.refused(now, Refused::Credentials, None, random);
        }
        self.failures += u32::from(tried);
        self.challenge = Some(challenge);
        self.state = if self.is_leaving() {
            State::Leaving { answered: true }
        } else {
            State::Asked { answered: true }
        };
        Meaning::Again
    }

    fn too_brief(&mut self, now: Instant, response: &Response, random: u64) -> Meaning {
        let least = response.headers.first("Min-Expires");
        match least.and_then(|least| least.trim().parse::<u32>().ok()) {
            Some(least) if least > self.wanted && least <= EXPIRES_MAX => {
                self.wanted = least;
                Meaning::Again
            }
            Some(_) | None => self.refused(now, Refused::Status(423), None, random),
        }
    }

    /// Is the registrar's answer to our parting still to come?
    pub(crate) const fn is_parting(&self) -> bool {
        matches!(self.state, State::Leaving { .. })
    }

    const fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving { .. } | State::Left)
    }

    /// Asks again after a pause that doubles with each failure, by RFC 5626 section 4.5, or when it was
    /// told to.
    fn refused(
        &mut self,
        now: Instant,
        why: Refused,
        after: Option<Duration>,
        random: u64,
    ) -> Meaning {
        if self.is_leaving() {
            self.state = State::Left;
            return Meaning::Nothing;
        }
        let most = match why {
            // Asked in vain, and a provider may lock an account after some tries.
            Refused::Credentials | Refused::Challenge | Refused::Realm => PAUSE_MAX,
            Refused::Status(_) | Refused::OtherContact => PAUSE_MIN
                .saturating_mul(1 << self.failures.min(8))
                .min(PAUSE_MAX),
        };
        self.failures = self.failures.saturating_add(1);
        self.is_refused = !matches!(why, Refused::Status(408 | 503));
        let pause = most / 2 + most.mul_f64(random.min(1_000) as f64 / 2_000.0);
        let pause = after.map_or(pause, |after| after.clamp(pause, RETRY_AFTER_MAX));
        self.state = State::Waiting(now + pause);
        Meaning::Refused(why)
    }
}

/// Seconds for our contact: of the contact itself, else for all (RFC 3261 section 10.2.4). A registrar that
/// lists contacts but none of our user has not taken us.
fn granted(headers: &Headers, ours: &str, wanted: u32) -> Option<u32> {
    let for_all: Option<u32> = headers
        .first("Expires")
        .and_then(|seconds| seconds.trim().parse().ok());
    let contacts: Vec<NameAddr> = headers
        .list("Contact")
        .take(CONTACTS_MAX)
        .filter_map(NameAddr::parse)
        .collect();
    if contacts.is_empty() {
        return Some(for_all.unwrap_or(EXPIRES_WANTED));
    }
    let of_it = |contact: &NameAddr| -> u32 {
        let seconds = contact.param("expires");
        let seconds = seconds.and_then(|seconds| seconds.parse().ok());
        seconds.or(for_all).unwrap_or(EXPIRES_WANTED)
    };
    let is_ours = |contact: &&NameAddr| place(&contact.uri) == place(ours);
    // A single one is ours, as the registrar sees us from its side of a NAT. Where that rewrites several, ours is the
    // latest of our user's, and so the longest but for other devices of his that ask for more than we.
    let seconds = match contacts.as_slice() {
        [only] => of_it(only),
        several => match several.iter().find(is_ours) {
            Some(mine) => of_it(mine),
            None => {
                let of_our_user = |contact: &&NameAddr| user(&contact.uri) == user(ours);
                several
                    .iter()
                    .filter(of_our_user)
                    .map(of_it)
                    .max()?
                    .min(wanted)
            }
        },
    };
    (seconds > 0).then_some(seconds)
}

fn user(uri: &str) -> Option<String> {
    Some(Target::parse(uri).ok()?.user)
}

/// User, host and port; parameters that a registrar adds don't matter.
fn place(uri: &str) -> Option<(String, String)> {
    let target = Target::parse(uri).ok()?;
    let host_port = target.host_port.to_ascii_lowercase();
    let host = host_port.strip_suffix(":5060").unwrap_or(&host_port);
    Some((target.user.clone(), host.to_owned()))
}

pub(crate) fn retry_after(headers: &Headers) -> Option<Duration> {
    let value = headers.first("Retry-After")?;
    let seconds = value.split([';', '(', ' ']).next()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Ten minutes: after a registrar has lost its memory, calls come again soon enough.
const EXPIRES_WANTED: u32 = 600;
/// What a registrar grants is believed within these bounds, seconds.
const EXPIRES_MIN: u32 = 30;
const EXPIRES_MAX: u32 = 86_400;
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
const STALE_MAX: u32 = 3;
const CONTACTS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::media::seeded;
    use crate::sip::guard::{self, Caps};
    use crate::sip::message::Message;

    const OURS: &str = "sip:gw@192.0.2.1:5060";

    fn response(status: u16, headers: &str) -> Response {
        let text = format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:a@b>;tag=2\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n{headers}Content-Length: 0\r\n\r\n"
        );
        let caps = Caps {
            datagram: 8_192,
            head: 8_192,
            headers: 50,
        };
        match Message::parse(guard::inspect_datagram(text.as_bytes(), &caps).unwrap()) {
            Message::Response(response) => response,
            Message::Request(_) | Message::BadResponse => panic!("{text}"),
        }
    }

    fn asked(now: Instant) -> Registration {
        let mut registration = Registration::new(
            Some(Credentials {
                user: "gw".to_owned(),
                password: Secret::new("x"),
            }),
            None,
        );
        assert_eq!(registration.deadline(), None);
        registration.connected(now, false);
        assert!(registration.handle_timeout(now));
        assert!(!registration.handle_timeout(now), "asked twice");
        registration
    }

    fn challenge(stale: bool) -> Response {
        response(
            401,
            &format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", stale={stale}\r\n"),
        )
    }

    #[test]
    fn it_is_refreshed_well_before_its_end() {
        let now = seeded::start();
        for random in [0, 500, 999] {
            let mut it = asked(now);
            assert_eq!(it.expires(), 600);
            let ok = response(
                200,
                &format!("Contact: <{OURS};x=y>;expires=120\r\nExpires: 900\r\n"),
            );
            assert_eq!(
                it.handle_response(now, &ok, OURS, random),
                Meaning::Registered
            );
            let refresh = it.deadline().unwrap() - now;
            assert!((Duration::from_secs(60)..=Duration::from_secs(108)).contains(&refresh));
            assert!(it.is_registered(now + Duration::from_secs(119)));
            assert!(!it.is_registered(now + Duration::from_secs(120)));
            assert!(it.handle_timeout(now + refresh), "asks again");
            assert!(it.is_registered(now + refresh), "and stays known meanwhile");
        }
    }

    #[test]
    fn a_challenge_is_answered_once_and_wrong_credentials_wait_long() {
        let now = seeded::start();
        let mut it = asked(now);
        assert_eq!(it.authorization("REGISTER", "sip:r", "c"), None);
        assert_eq!(
            it.handle_response(now, &challenge(false), OURS, 0),
            Meaning::Again
        );
        let (name, value) = it.authorization("REGISTER", "sip:r", "c").unwrap();
        assert!(name == "Authorization" && value.contains("realm=\"r\""));
        let refused = it.handle_response(now, &challenge(false), OURS, 0);
        assert_eq!(refused, Meaning::Refused(Refused::Credentials));
        assert!(it.deadline().unwrap() - now >= Duration::from_secs(150));
    }

    #[test]
    fn a_stale_nonce_is_renewed_but_not_for_ever() {
        let now = seeded::start();
        let mut it = asked(now);
        let mut meanings = Vec::new();
        for _ in 0..6 {
            meanings.push(it.handle_response(now, &challenge(true), OURS, 0));
        }
        let again = meanings.iter().take_while(|m| **m == Meaning::Again);
        assert_eq!(again.count(), 4, "{meanings:?}");
        assert_eq!(meanings[4], Meaning::Refused(Refused::Credentials));
    }

    #[test]
    fn failures_wait_longer_and_longer_within_bounds_and_as_told() {
        let now = seeded::start();
        let mut it = asked(now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let meaning = it.handle_response(now, &response(503, ""), OURS, 500);
            assert_eq!(meaning, Meaning::Refused(Refused::Status(503)));
            let at = it.deadline().unwrap();
            pauses.push((at - now).as_millis());
            assert!(it.handle_timeout(at));
        }
        assert_eq!(pauses[..4], [1_500, 3_000, 6_000, 12_000]);
        assert_eq!(pauses[11], 225_000);
        let told = response(503, "Retry-After: 900 (busy)\r\n");
        it.handle_response(now, &told, OURS, 0);
        assert_eq!(it.deadline(), Some(now + Duration::from_secs(900)));
        it.handle_timeout(now + Duration::from_secs(900));
        let ok = response(200, "Expires: 60\r\n");
        assert_eq!(it.handle_response(now, &ok, OURS, 0), Meaning::Registered);
        it.handle_timeout(now + Duration::from_secs(30));
        it.unanswered(now, 500);
        let pause = it.deadline().unwrap() - now;
        assert_eq!(
            pause,
            Duration::from_millis(1_500),
            "success forgets failures"
        );
    }

    #[test]
    fn too_brief_other_contacts_and_a_cut_way() {
        let now = seeded::start();
        let mut it = asked(now);
        let brief = response(423, "Min-Expires: 1800\r\n");
        assert_eq!(it.handle_response(now, &brief, OURS, 0), Meaning::Again);
        assert_eq!(it.expires(), 1_800);
        let never = it.handle_response(now, &brief, OURS, 0);
        assert_eq!(never, Meaning::Refused(Refused::Status(423)));
        let other = "Contact: <sip:gv@198.51.100.9>;expires=60, <sip:gx@192.0.2.1>;expires=60\r\n";
        let other = response(200, other);
        let refused = it.handle_response(now, &other, OURS, 0);
        assert_eq!(refused, Meaning::Refused(Refused::OtherContact));
        for ours in [
            "Contact: <sip:gw@203.0.113.5:41000>;expires=60\r\n",
            "Contact: <sip:gw@198.51.100.9>;expires=60, <sip:gw@192.0.2.1>;expires=60\r\n",
        ] {
            let taken = it.handle_response(now, &response(200, ours), OURS, 0);
            assert_eq!(taken, Meaning::Registered, "{ours}");
        }
        it.cut();
        assert_eq!((it.deadline(), it.is_registered(now)), (None, false));
        it.connected(now, false);
        assert_eq!(it.deadline(), Some(now));
    }

    #[test]
    fn a_registrar_that_rewrites_addresses_and_lists_several_has_taken_us() {
        let now = seeded::start();
        for (headers, seconds) in [
            // From before a restart, and of now.
            (
                "Contact: <sip:gw@10.0.0.1:1>;expires=40, <sip:gw@10.0.0.1:2>;expires=60\r\n",
                60,
            ),
            (
                "Contact: <sip:gw@10.0.0.1:1>;expires=3600, <sip:gw@10.0.0.1:2>;expires=600\r\n",
                600,
            ),
            (
                "Contact: <sip:gw@10.0.0.1:1>\r\nContact: <sip:other@10.0.0.2>;expires=90\r\nExpires: 50\r\n",
                50,
            ),
        ] {
            let mut it = asked(now);
            let taken = it.handle_response(now, &response(200, headers), OURS, 0);
            assert_eq!(taken, Meaning::Registered, "{headers}");
            let end = now + Duration::from_secs(seconds);
            assert!(it.is_registered(end - Duration::from_secs(1)), "{headers}");
            assert!(!it.is_registered(end), "{headers}");
        }
        let mut it = asked(now);
        let gone = "Contact: <sip:gw@10.0.0.1:1>;expires=0, <sip:gw@10.0.0.1:2>;expires=0\r\n";
        let refused = it.handle_response(now, &response(200, gone), OURS, 0);
        assert_eq!(refused, Meaning::Refused(Refused::OtherContact));
    }

    #[test]
    fn leaving_asks_for_nothing_more() {
        let now = seeded::start();
        let mut it = asked(now);
        it.handle_response(now, &response(200, "Expires: 60\r\n"), OURS, 0);
        assert!(it.leave() && it.is_parting());
        assert_eq!((it.expires(), it.deadline()), (0, None));
        let meaning = it.handle_response(now, &response(200, ""), OURS, 0);
        assert_eq!((meaning, it.is_registered(now)), (Meaning::Nothing, false));
        assert!(!it.is_parting());
        assert!(!it.leave(), "it was taken back");
        it.cut();
        it.connected(now, false);
        assert_eq!(it.deadline(), None, "nor after another connection");
    }

    #[test]
    fn a_parting_is_not_argued_about() {
        let now = seeded::start();
        let mut it = asked(now);
        it.handle_response(now, &response(200, "Expires: 60\r\n"), OURS, 0);
        it.leave();
        assert_eq!(
            it.handle_response(now, &challenge(false), OURS, 0),
            Meaning::Again
        );
        assert_eq!(
            it.handle_response(now, &challenge(false), OURS, 0),
            Meaning::Nothing
        );
        assert!(!it.is_parting());
    }
}
