//! Digest authentication, the side that asks (RFC 7616, RFC 8760 for SIP).
//!
//! A nonce says when and to whom it was given, sealed, so that nothing is kept of those that are never answered. What is
//! kept is how far those that were answered rightly have been counted: no answer is taken twice. A name that nobody has
//! is answered like a wrong password, after the same work.
//!
//! Wrong answers count against whom they came from, and only those to a nonce that was sent there: who forges his address
//! has none, so he can't use up what somebody else may get wrong. Nor can one telephone for the others of its house: a
//! name that nothing is held against is looked at even then.

#![deny(clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use crate::config::{DigestAlgorithm, Secret};
use crate::sip::address::Target;
use crate::sip::digest::{Algorithm, Asked, Credentials, Params, response};
use crate::sip::limits::{SourceLimits, host_of};
use crate::sip::token::Tokens;

/// What somebody must prove to know, and by which algorithms he may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// User and password.
    pub credentials: Credentials,
    /// The one that is liked best first.
    pub algorithms: Vec<DigestAlgorithm>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    tokens: Tokens,
    /// What nonces count their time from.
    began: Option<Instant>,
    /// How far each nonce has been counted that was answered rightly, the oldest first.
    counted: BTreeMap<Given, u32>,
    /// This one and those before it are good no more.
    forgotten: Option<Given>,
    guesses: SourceLimits,
    wrong: Wrong,
}

/// A nonce: when it was given, and its text.
type Given = (Duration, String);

/// Names that were answered wrongly for, by where from, and until when that is held against them.
#[derive(Debug, Default)]
struct Wrong {
    until: HashMap<String, Instant>,
    /// The same, the oldest first.
    order: VecDeque<(Instant, String)>,
}

/// A request that is to prove whose it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) source: IpAddr,
    pub(crate) method: &'a str,
    pub(crate) uri: &'a str,
    /// Its Authorization, if it has one.
    pub(crate) authorization: Option<&'a str>,
}

/// What a proof is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is his who is at this place of the list.
    Proven(usize),
    /// Ask him (again); `stale`: all was right but the nonce.
    Ask {
        /// See above.
        stale: bool,
        /// What it is counted as.
        reason: &'static str,
    },
    /// It isn't what it should be at all.
    Malformed,
    /// Wrong too often to be looked at now.
    TooOften,
}

impl Doorkeeper {
    pub(crate) fn new(seed: u64, sources_max: usize) -> Self {
        Self {
            tokens: Tokens::new(seed).apart("doorkeeper"),
            began: None,
            counted: BTreeMap::new(),
            forgotten: None,
            wrong: Wrong::default(),
            guesses: SourceLimits::new(GUESSES_PER_SECOND, GUESSES_BURST, sources_max),
        }
    }

    /// Is it one of `known`?
    pub(crate) fn judge(&mut self, now: Instant, claim: &Claim<'_>, known: &[&Proof]) -> Verdict {
        let Some(authorization) = claim.authorization else {
            let (stale, reason) = (false, "asked who calls");
            return Verdict::Ask { stale, reason };
        };
        let Some(answer) = Answer::parse(authorization).filter(|answer| answer.fits(claim)) else {
            return Verdict::Malformed;
        };
        let Some(nonce) = self.given(now, claim.source, answer.nonce) else {
            let (stale, reason) = (true, "old nonce");
            return Verdict::Ask { stale, reason };
        };
        let may_err = self.guesses.admit(now, claim.source);
        let name = self.name_there(claim.source, answer.user);
        if !may_err && self.wrong.is_held_against(now, &name) {
            return Verdict::TooOften;
        }
        let Some(found) = answer.is_right(claim.method, known) else {
            self.wrong.hold_against(now, name);
            let (stale, reason) = (false, "wrong credentials");
            return Verdict::Ask { stale, reason };
        };
        // Whoever knows the password doesn't guess.
        if may_err {
            self.guesses.give_back(claim.source);
        }
        if self.count(nonce, answer.count) {
            Verdict::Proven(found)
        } else {
            let (stale, reason) = (true, "replayed credentials");
            Verdict::Ask { stale, reason }
        }
    }

    /// What is asked with: a challenge for each algorithm that one of `known` may use (RFC 8760 section 2.3).
    pub(crate) fn challenges(
        &mut self,
        now: Instant,
        source: IpAddr,
        stale: bool,
        known: &[&Proof],
    ) -> Vec<(&'static str, String)> {
        let nonce = self.nonce(now, source);
        let stale = if stale { ", stale=true" } else { "" };
        let challenge = |algorithm: &str| {
            format!(
                "Digest realm=\"{REALM}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{stale}"
            )
        };
        let mut asked: Vec<DigestAlgorithm> = Vec::new();
        for algorithm in known.iter().flat_map(|proof| &proof.algorithms) {
            if !asked.contains(algorithm) {
                asked.push(*algorithm);
            }
        }
        let asked = asked.into_iter();
        asked
            .map(|algorithm| ("WWW-Authenticate", challenge(algorithm.name())))
            .collect()
    }

    fn nonce(&mut self, now: Instant, source: IpAddr) -> String {
        let began = *self.began.get_or_insert(now);
        let given = now.saturating_duration_since(began).as_millis();
        let open = format!("{given:x}.{}", self.tokens.fresh());
        let seal = self.seal(&open, source);
        format!("{open}.{seal}")
    }

    fn seal(&self, open: &str, source: IpAddr) -> String {
        let source = host_of(source).to_string();
        self.tokens.seal(&[open.as_bytes(), source.as_bytes()])
    }

    /// What a name is called in the list of those that were answered wrongly for; whatever its length.
    fn name_there(&self, source: IpAddr, user: &str) -> String {
        let source = host_of(source).to_string();
        self.tokens
            .seal(&[b"name", source.as_bytes(), user.as_bytes()])
    }

    /// Each answer once. Where there is no room for one more nonce the oldest is forgotten, and is good no more.
    fn count(&mut self, nonce: Given, count: u32) -> bool {
        let last = self.counted.entry(nonce).or_default();
        let is_new = count > *last;
        *last = count.max(*last);
        if self.counted.len() > NONCES_MAX
            && let Some((oldest, _)) = self.counted.pop_first()
        {
            self.forgotten = Some(oldest);
        }
        is_new
    }

    /// `None`: it isn't one that this source was given, or isn't good any more.
    fn given(&mut self, now: Instant, source: IpAddr, nonce: &str) -> Option<Given> {
        let (open, seal) = nonce.rsplit_once('.')?;
        let expected = self.seal(open, source);
        if !bool::from(expected.as_bytes().ct_eq(seal.as_bytes())) {
            return None;
        }
        let given = u64::from_str_radix(open.split_once('.')?.0, 16).ok()?;
        let given = (Duration::from_millis(given), nonce.to_owned());
        let began = self.began?;
        let is_good = |(given, _): &Given| began + *given + NONCE_LIFE > now;
        while let Some(oldest) = self.counted.first_entry().filter(|one| !is_good(one.key())) {
            oldest.remove();
        }
        (is_good(&given) && self.forgotten.as_ref() < Some(&given)).then_some(given)
    }
}

impl Wrong {
    /// Where too many are on the list all are.
    fn is_held_against(&mut self, now: Instant, name: &str) -> bool {
        while let Some((_, name)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            if self.until.get(&name).is_some_and(|until| *until <= now) {
                self.until.remove(&name);
            }
        }
        self.order.len() >= WRONG_MAX || self.until.contains_key(name)
    }

    fn hold_against(&mut self, now: Instant, name: String) {
        if self.is_held_against(now, &name) && self.order.len() >= WRONG_MAX {
            return;
        }
        let until = now + WRONG_FOR;
        self.until.insert(name.clone(), until);
        self.order.push_back((until, name));
    }
}

/// An Authorization header.
struct Answer<'a> {
    user: &'a str,
    realm: &'a str,
    nonce: &'a str,
    uri: &'a str,
    response: &'a str,
    cnonce: &'a str,
    count_text: &'a str,
    count: u32,
    algorithm: Algorithm,
    algorithm_name: &'a str,
}

impl<'a> Answer<'a> {
    /// One that keeps to the quality that was offered: `auth`, and nothing else.
    fn parse(value: &'a str) -> Option<Self> {
        let params = Params::parse(value)?;
        let param = |wanted: &str| params.get(wanted);
        if !param("qop")?.eq_ignore_ascii_case("auth") {
            return None;
        }
        let algorithm_name = param("algorithm").unwrap_or("MD5");
        let count_text = param("nc").filter(|count| count.len() == 8)?;
        Some(Self {
            user: param("username")?,
            realm: param("realm")?,
            nonce: param("nonce")?,
            uri: param("uri")?,
            response: param("response")?,
            cnonce: param("cnonce").filter(|cnonce| !cnonce.is_empty())?,
            count_text,
            count: u32::from_str_radix(count_text, 16).ok()?,
            algorithm: Algorithm::parse(algorithm_name)?,
            algorithm_name,
        })
    }

    /// It is for whom this request asks, or for the server alone, as some clients have it. A proxy may have written the
    /// rest of the URI anew.
    fn fits(&self, claim: &Claim<'_>) -> bool {
        let user = |uri: &str| Target::parse(uri).ok().map(|target| target.user);
        match (user(claim.uri), user(self.uri)) {
            (Some(asked), Some(own)) => own.is_empty() || own == asked,
            (Some(_) | None, _) => false,
        }
    }

    /// Whose it is. The work is the same for a name that nobody has.
    fn is_right(&self, method: &str, known: &[&Proof]) -> Option<usize> {
        let taken = |proof: &Proof| {
            let mut names = proof.algorithms.iter().map(|algorithm| algorithm.name());
            names.any(|name| name.eq_ignore_ascii_case(self.algorithm_name))
        };
        let is_his = |proof: &&Proof| proof.credentials.user == self.user && taken(proof);
        let found = known.iter().position(is_his);
        let nobody = Credentials {
            user: self.user.to_owned(),
            password: Secret::new("nobody has this one"),
        };
        let credentials = found
            .and_then(|at| known.get(at))
            .map(|proof| &proof.credentials);
        let asked = Asked {
            realm: REALM,
            nonce: self.nonce,
            method,
            uri: self.uri,
            count: Some(self.count_text),
            cnonce: self.cnonce,
        };
        let expected = response(self.algorithm, credentials.unwrap_or(&nobody), &asked);
        let given = self.response.to_ascii_lowercase();
        let fits = bool::from(expected.as_bytes().ct_eq(given.as_bytes()));
        found.filter(|_| fits && self.realm == REALM)
    }
}

/// Says nothing of who we are.
const REALM: &str = "sip";
/// Until somebody who knows his password is asked for it again.
const NONCE_LIFE: Duration = Duration::from_secs(300);
/// Of which it is known how far they were counted: more than a minute's, at the highest rate that calls come at.
const NONCES_MAX: usize = 40_000;
/// Answers looked at from one source that turn out wrong.
const GUESSES_PER_SECOND: f64 = 0.1;
const GUESSES_BURST: f64 = 10.0;
/// How long a wrong answer is held against a name: until its source may get as many wrong again.
const WRONG_FOR: Duration = Duration::from_secs(100);
/// That are held against names at once.
const WRONG_MAX: usize = 10_000;

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::sip::digest::Challenge;

    const HERE: &str = "192.0.2.9";
    const URI: &str = "sip:7000@voice.example";

    fn anna(password: &str) -> Credentials {
        Credentials {
            user: "anna".to_owned(),
            password: Secret::new(password),
        }
    }

    fn both(credentials: Credentials) -> Proof {
        let algorithms = vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5];
        Proof {
            credentials,
            algorithms,
        }
    }

    #[test]
    fn an_algorithm_that_is_not_wanted_is_neither_asked_for_nor_taken() {
        let (mut door, now) = (Doorkeeper::new(1, 9), Instant::now());
        let source = HERE.parse().unwrap();
        let mut old = both(anna("hunter2"));
        old.algorithms = vec![DigestAlgorithm::Md5];
        let asked = door.challenges(now, source, false, &[&old]);
        assert!(asked.len() == 1 && asked[0].1.contains("algorithm=MD5,"));
        let mut new = both(anna("hunter2"));
        new.algorithms = vec![DigestAlgorithm::Sha256];
        let mut phone = Challenge::parse(&asked[0].1, false).unwrap();
        let (_, text) = phone.answer(&anna("hunter2"), "INVITE", URI, "c");
        let claim = Claim {
            source,
            method: "INVITE",
            uri: URI,
            authorization: Some(&text),
        };
        assert_eq!(door.judge(now, &claim, &[&new]), WRONG);
        assert_eq!(door.judge(now, &claim, &[&new, &old]), Verdict::Proven(1));
    }

    /// What the door asks, as a phone takes it.
    fn answered(door: &mut Doorkeeper, now: Instant, at: usize) -> Challenge {
        let asked = door.challenges(now, HERE.parse().unwrap(), false, &[&both(anna("hunter2"))]);
        Challenge::parse(&asked[at].1, false).unwrap()
    }

    fn judge(
        door: &mut Doorkeeper,
        now: Instant,
        from: &str,
        uri: &str,
        authorization: Option<&str>,
    ) -> Verdict {
        let claim = Claim {
            source: from.parse().unwrap(),
            method: "INVITE",
            uri,
            authorization,
        };
        door.judge(now, &claim, &[&both(anna("hunter2"))])
    }

    const WRONG: Verdict = Verdict::Ask {
        stale: false,
        reason: "wrong credentials",
    };

    fn stale(reason: &'static str) -> Verdict {
        Verdict::Ask {
            stale: true,
            reason,
        }
    }

    #[test]
    fn the_better_algorithm_is_offered_first_and_both_are_taken_once() {
        let (mut door, now) = (Doorkeeper::new(1, 9), Instant::now());
        let asked = door.challenges(now, HERE.parse().unwrap(), true, &[&both(anna("hunter2"))]);
        assert!(
            asked[0]
                .1
                .contains("algorithm=SHA-256, qop=\"auth\", stale=true")
        );
        assert!(asked[1].1.contains("algorithm=MD5"));
        for at in [0, 1] {
            let who = anna("hunter2");
            let mut phone = answered(&mut door, now, at);
            let (_, first) = phone.answer(&who, "INVITE", URI, "c");
            let (_, second) = phone.answer(&who, "INVITE", URI, "c");
            let mut judge = |text: &str| judge(&mut door, now, HERE, URI, Some(text));
            assert_eq!(judge(&first), Verdict::Proven(0));
            assert_eq!(judge(&first), stale("replayed credentials"));
            assert_eq!(judge(&second), Verdict::Proven(0));
            assert_eq!(judge(&first), stale("replayed credentials"));
        }
    }

    #[test]
    fn a_nonce_is_good_for_its_time_and_for_whom_it_was_given_to() {
        let (mut door, now) = (Doorkeeper::new(1, 9), Instant::now());
        let who = anna("hunter2");
        let mut phone = answered(&mut door, now, 0);
        let (_, text) = phone.answer(&who, "INVITE", URI, "c");
        let elsewhere = judge(&mut door, now, "192.0.2.10", URI, Some(&text));
        assert_eq!(elsewhere, stale("old nonce"));
        let late = now + NONCE_LIFE;
        let old = judge(&mut door, late, HERE, URI, Some(&text));
        assert_eq!(old, stale("old nonce"));
        let in_time = late - Duration::from_millis(1);
        let right = judge(&mut door, in_time, HERE, URI, Some(&text));
        assert_eq!(right, Verdict::Proven(0));
        // One that was made up.
        let forged = text.replace("nonce=\"", "nonce=\"f");
        let forged = judge(&mut door, now, HERE, URI, Some(&forged));
        assert_eq!(forged, stale("old nonce"));
    }

    #[test]
    fn a_wrong_password_and_a_name_that_nobody_has_are_answered_alike_and_seldom_looked_at() {
        let (mut door, now) = (Doorkeeper::new(1, 9), Instant::now());
        let mut nobody = anna("hunter2");
        nobody.user = "nobody".to_owned();
        let mut guess = |who: &Credentials| {
            let mut phone = answered(&mut door, now, 0);
            let (_, text) = phone.answer(who, "INVITE", URI, "c");
            judge(&mut door, now, HERE, URI, Some(&text))
        };
        for _ in 0..100 {
            assert_eq!(guess(&anna("hunter2")), Verdict::Proven(0));
        }
        for _ in 0..5 {
            assert_eq!((guess(&anna("hunter3")), guess(&nobody)), (WRONG, WRONG));
        }
        assert_eq!(guess(&anna("hunter3")), Verdict::TooOften);
        assert_eq!(guess(&anna("hunter2")), Verdict::TooOften);
        let who = anna("hunter2");
        let later = now + Duration::from_secs(11);
        let mut phone = answered(&mut door, later, 0);
        let (_, text) = phone.answer(&who, "INVITE", URI, "c");
        let again = judge(&mut door, later, HERE, URI, Some(&text));
        assert_eq!(again, Verdict::Proven(0));
    }

    #[test]
    fn what_was_not_offered_is_not_taken() {
        let (mut door, now) = (Doorkeeper::new(1, 9), Instant::now());
        let who = anna("hunter2");
        let mut phone = answered(&mut door, now, 0);
        let (_, text) = phone.answer(&who, "INVITE", URI, "c");
        let mut judge = |uri: &str, text: &str| judge(&mut door, now, HERE, uri, Some(text));
        for bad in [
            text.replace("qop=auth", "qop=auth-int"),
            text.replace("qop=auth", "q=auth"),
            text.replace("nc=00000001", "nc=1"),
            text.replace("cnonce=\"c\"", "cnonce=\"\""),
            text.replace("SHA-256", "SHA-512-256"),
            text.replace("Digest ", "Basic "),
            "Digest".to_owned(),
            String::new(),
        ] {
            assert_eq!(judge(URI, &bad), Verdict::Malformed, "{bad}");
        }
        assert_eq!(judge("sip:112@voice.example", &text), Verdict::Malformed);
        // A number that is counted on isn't covered by the answer that was counted before.
        let counted_on = text.replace("nc=00000001", "nc=00000002");
        assert_eq!(judge(URI, &counted_on), WRONG);
        let through_a_proxy = judge("sip:7000@10.0.0.1:5060", &text);
        assert_eq!(through_a_proxy, Verdict::Proven(0));
        let (_, for_the_server) = phone.answer(&who, "INVITE", "sip:voice.example", "c");
        assert_eq!(judge(URI, &for_the_server), Verdict::Proven(0));
    }

    #[test]
    fn who_forges_an_address_keeps_nobody_there_from_calling() {
        let (mut door, now) = (Doorkeeper::new(1, 9), Instant::now());
        let mut phone = answered(&mut door, now, 0);
        let (_, text) = phone.answer(&anna("hunter3"), "INVITE", URI, "c");
        let forged = text.replace("nonce=\"", "nonce=\"f");
        for _ in 0..100 {
            let forged = judge(&mut door, now, HERE, URI, Some(&forged));
            assert_eq!(forged, stale("old nonce"));
        }
        assert_eq!(judge(&mut door, now, HERE, URI, Some(&text)), WRONG);
        let (_, text) = phone.answer(&anna("hunter2"), "INVITE", URI, "c");
        let right = judge(&mut door, now, HERE, URI, Some(&text));
        assert_eq!(right, Verdict::Proven(0));
    }

    #[test]
    fn a_telephone_with_an_old_password_locks_nobody_else_of_its_house_out() {
        let (mut door, now) = (Doorkeeper::new(1, 9), Instant::now());
        let named = |user: &str, password: &str| Credentials {
            user: user.to_owned(),
            password: Secret::new(password),
        };
        let known = [both(anna("hunter2")), both(named("bert", "hunter2"))];
        let known: Vec<&Proof> = known.iter().collect();
        let mut call = |who: &Credentials, now: Instant| {
            let source = HERE.parse().unwrap();
            let asked = door.challenges(now, source, false, &known);
            let mut phone = Challenge::parse(&asked[0].1, false).unwrap();
            let (_, text) = phone.answer(who, "INVITE", URI, "c");
            let claim = Claim {
                source,
                method: "INVITE",
                uri: URI,
                authorization: Some(&text),
            };
            door.judge(now, &claim, &known)
        };
        for _ in 0..10 {
            assert_eq!(call(&anna("hunter3"), now), WRONG);
        }
        assert_eq!(call(&anna("hunter3"), now), Verdict::TooOften);
        for _ in 0..20 {
            assert_eq!(call(&named("bert", "hunter2"), now), Verdict::Proven(1));
        }
        // Whether somebody has that name isn't told by it either.
        for name in ["bert", "nobody"] {
            assert_eq!(call(&named(name, "hunter3"), now), WRONG);
            assert_eq!(call(&named(name, "hunter3"), now), Verdict::TooOften);
        }
        assert_eq!(call(&named("bert", "hunter2"), now), Verdict::TooOften);
        let later = now + WRONG_FOR;
        assert_eq!(call(&named("bert", "hunter2"), later), Verdict::Proven(1));
    }

    #[test]
    fn what_is_held_against_names_has_an_end() {
        let (mut wrong, now) = (Wrong::default(), Instant::now());
        for at in 0..WRONG_MAX + 9 {
            wrong.hold_against(now, at.to_string());
        }
        assert_eq!(wrong.order.len(), WRONG_MAX);
        assert!(wrong.is_held_against(now, "another"), "there is no room");
        assert!(!wrong.is_held_against(now + WRONG_FOR, "0"));
        assert!(wrong.order.is_empty() && wrong.until.is_empty());
    }

    #[test]
    fn however_many_prove_themselves_all_are_taken_and_none_twice() {
        let (mut door, now) = (Doorkeeper::new(1, 9), Instant::now());
        let who = anna("hunter2");
        let mut first = answered(&mut door, now, 0);
        let (_, text) = first.answer(&who, "INVITE", URI, "c");
        let (_, more) = first.answer(&who, "INVITE", URI, "c");
        let right = judge(&mut door, now, HERE, URI, Some(&text));
        assert_eq!(right, Verdict::Proven(0));
        // As many as there is room for, of a moment later.
        let soon = now + Duration::from_millis(1);
        for at in 0..NONCES_MAX {
            assert!(door.count((soon - now, at.to_string()), 1));
        }
        assert_eq!(door.counted.len(), NONCES_MAX);
        for again in [&text, &more] {
            let again = judge(&mut door, soon, HERE, URI, Some(again));
            assert_eq!(again, stale("old nonce"), "it was forgotten for the others");
        }
        let mut phone = answered(&mut door, soon + Duration::from_millis(1), 0);
        let (_, text) = phone.answer(&who, "INVITE", URI, "c");
        let one_more = judge(&mut door, soon, HERE, URI, Some(&text));
        assert_eq!(one_more, Verdict::Proven(0));
        // Those whose time is up are kept no longer.
        let later = now + NONCE_LIFE + Duration::from_secs(1);
        let mut phone = answered(&mut door, later, 0);
        let (_, text) = phone.answer(&who, "INVITE", URI, "c");
        let right = judge(&mut door, later, HERE, URI, Some(&text));
        assert_eq!((right, door.counted.len()), (Verdict::Proven(0), 1));
    }
}
