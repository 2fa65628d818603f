//! Trunks: voicebridge registers with a real Asterisk and with real Kamailios, is called by way of them, finds them
//! again after their restart, and calls who is registered there.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::asterisk::{Asterisk, text};
use crate::asterisk_life::wait_until;
use crate::baresip::{PCMA, PCMU, Phone};
use crate::dialling::{allow, dial, record_of};
use crate::kamailio::{self, Kamailio};
use crate::outcomes::wait_for_participants;
use crate::server::{CALLER, Meeting, Server};

#[test]
fn it_registers_with_asterisk_by_both_digests_is_called_and_survives_its_restart() {
    let mut asterisk = Asterisk::start();
    let server = assert_it_is_a_registrar_to_live_with(&mut asterisk, "");
    leave(server, &asterisk);
}

#[test]
fn it_registers_with_kamailio_by_both_digests_is_called_survives_its_restart_and_calls_who_is_there()
 {
    let mut both = Kamailios {
        md5: kamailio::registrar("MD5", BY_MD5, PASSWORD),
        sha_256: kamailio::registrar("SHA-256", BY_SHA_256, PASSWORD),
    };
    let more = "dial = \"sip:{number}@trunk.example\"\n";
    let server = assert_it_is_a_registrar_to_live_with(&mut both, more);
    let mut phone = Phone::registered(&server, &PCMU, CALLER, both.md5.plain, PASSWORD);
    wait_until("the phone is registered", PATIENCE, || {
        both.md5.ask(&["ul.dump"]).contains(CALLER)
    });
    let (key, meeting) = (allow(&server), server.book(&json!({})));
    let (status, told) = dial(&server, &key, &meeting, &json!({"to": CALLER}));
    assert_eq!(status, 202, "{told}");
    phone.wait_for_call();
    sleep(Duration::from_secs(2));
    phone.write("1");
    wait_for_participants(&server, &meeting.id, 1);
    phone.write("b");
    let record = record_of(&server, text(&told["call_id"]));
    assert_eq!(
        ["direction", "outcome", "trunk"].map(|name| text(&record[name])),
        ["out", "joined", BY_MD5],
        "{record}"
    );
    leave(server, &both);
}

/// What trunks register with: `BY_MD5` by that digest, `BY_SHA_256` by the other. Who calls it at a number that begins with
/// 5 or 6 is sent on to the first or the second.
trait Registrar {
    /// Where this user registers.
    fn port(&self, user: &str) -> u16;
    fn knows(&self, user: &str) -> bool;
    /// Without warning.
    fn kill(&mut self);
    fn start_again(&mut self);
}

impl Registrar for Asterisk {
    fn port(&self, _: &str) -> u16 {
        self.sip
    }

    fn knows(&self, user: &str) -> bool {
        let contact = format!("{user}/sip:{user}@127.0.0.1");
        self.cli("pjsip show contacts").contains(&contact)
    }

    fn kill(&mut self) {
        self.signal("KILL");
    }

    fn start_again(&mut self) {
        Asterisk::start_again(self);
    }
}

/// One for each algorithm: they have one for all whom they ask.
struct Kamailios {
    md5: Kamailio,
    sha_256: Kamailio,
}

impl Kamailios {
    fn of(&self, user: &str) -> &Kamailio {
        if user == BY_MD5 {
            &self.md5
        } else {
            &self.sha_256
        }
    }
}

impl Registrar for Kamailios {
    fn port(&self, user: &str) -> u16 {
        self.of(user).plain
    }

    fn knows(&self, user: &str) -> bool {
        self.of(user).ask(&["ul.dump"]).contains(user)
    }

    fn kill(&mut self) {
        self.md5.kill();
        self.sha_256.kill();
    }

    fn start_again(&mut self) {
        self.md5.start_again();
        self.sha_256.start_again();
    }
}

/// Each trunk brings one number only. `more` stands with the first.
fn assert_it_is_a_registrar_to_live_with(registrar: &mut impl Registrar, more: &str) -> Server {
    let (md5, sha_256) = (registrar.port(BY_MD5), registrar.port(BY_SHA_256));
    let trunks = [
        trunk_at(md5, BY_MD5, BY_MD5, PASSWORD, "udp"),
        format!("{NUMBERS}{more}"),
        trunk_at(sha_256, BY_SHA_256, BY_SHA_256, PASSWORD, "tcp"),
        NUMBERS.to_owned(),
        trunk_at(md5, "stranger", BY_MD5, "not-the-password", "udp"),
    ];
    let server = Server::start(&trunks.concat());
    server.remember(&[PASSWORD, "not-the-password"]);
    let meeting = server.book(&json!({}));
    await_trunks(&server, &[(BY_MD5, 1), (BY_SHA_256, 1), ("stranger", 0)]);
    assert!(registrar.knows(BY_SHA_256));
    let call = |at: u16, number: &str| call(&server, &meeting, at, number);
    call(md5, "5003906555");
    call(sha_256, "6003906555");
    assert_refused(&server, md5, "5003906556");
    let refused = "user and password are not taken";
    assert!(server.log().contains(refused), "{}", server.log());

    registrar.kill();
    await_trunks(&server, &[(BY_SHA_256, 0)]);
    registrar.start_again();
    await_trunks(&server, &[(BY_MD5, 1), (BY_SHA_256, 1)]);
    call(sha_256, "6003906555");
    wait_until("it is known again", PATIENCE, || registrar.knows(BY_MD5));
    call(md5, "5003906555");
    server
}

/// When the node ends, it is registered no more.
fn leave(mut server: Server, registrar: &impl Registrar) {
    assert!(registrar.knows(BY_MD5) && registrar.knows(BY_SHA_256));
    server.terminate();
    assert!(!registrar.knows(BY_MD5) && !registrar.knows(BY_SHA_256));
}

pub(crate) fn trunk(
    asterisk: &Asterisk,
    name: &str,
    user: &str,
    password: &str,
    transport: &str,
) -> String {
    trunk_at(asterisk.sip, name, user, password, transport)
}

fn trunk_at(registrar: u16, name: &str, user: &str, password: &str, transport: &str) -> String {
    format!(
        "[[sip.trunk]]\nname = {name:?}\nregistrar = \"127.0.0.1:{registrar}\"\nuser = {user:?}\npassword = {password:?}\ntransport = {transport:?}\n"
    )
}

/// A caller dials the registrar, which sends him on by its trunk to us.
fn call(server: &Server, meeting: &Meeting, at: u16, number: &str) {
    let known = server.calls().len();
    let mut phone = Phone::calling(server, &PCMA, at, number);
    phone.enter(meeting);
    wait_for_participants(server, &meeting.id, 1);
    phone.write("b");
    let call = server.call_after(known);
    assert_eq!(call["outcome"], "joined", "{call}");
    // They are at one address.
    assert!(text(&call["trunk"]).starts_with("by-"), "{call}");
    assert!(text(&call["number"]).ends_with("3906555"), "{call}");
}

/// The same, for a number that isn't the trunk's.
fn assert_refused(server: &Server, at: u16, number: &str) {
    let known = server.calls().len();
    let mut phone = Phone::calling(server, &PCMA, at, number);
    phone.ask_for_call();
    let refused = server.call_after(known);
    assert_ne!(refused["outcome"], "joined", "{refused}");
}

/// Waits until the metrics say of each trunk whether it is up.
pub(crate) fn await_trunks(server: &Server, wanted: &[(&str, u8)]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metrics = server.metrics();
        let stands = |(name, up): &(&str, u8)| {
            metrics.contains(&format!("voicebridge_trunk_up{{name=\"{name}\"}} {up}"))
        };
        if wanted.iter().all(stands) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{wanted:?}\n{metrics}\n{}",
            server.log()
        );
        sleep(Duration::from_millis(100));
    }
}

pub(crate) const PASSWORD: &str = "canary-of-the-trunk";
const NUMBERS: &str = "numbers = [\"+3906555\"]\n";
const BY_MD5: &str = "by-md5";
const BY_SHA_256: &str = "by-sha-256";
const PATIENCE: Duration = Duration::from_secs(40);
