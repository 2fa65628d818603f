//! Callers by way of a real Asterisk, with the files that ship for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::baresip::{
    G722, LEVEL_ERROR_DB, OPUS, PCMA, PCMU, Phone, SENT_DBFS, SEPARATION_DB, TALK, Voice,
};
use crate::outcomes::wait_for_participants;
use crate::ports::{port, ports};
use crate::server::{Server, signal};
use crate::sipp::Scenario;

#[test]
fn callers_by_asterisk_in_four_codecs_and_direct_ones_hear_each_other_alike() {
    let asterisk = Asterisk::start();
    let server = asterisk.server("");
    let meeting = server.book(&json!({}));
    let port = |way: &Way| match way {
        Way::Asterisk => asterisk.sip,
        Way::Direct => server.sip_port,
    };
    let start = |(way, voice): &(Way, Voice)| Phone::calling(&server, voice, port(way), "1000");
    let mut phones: Vec<Phone> = CALLERS.iter().map(start).collect();
    thread::scope(|scope| {
        for phone in &mut phones {
            scope.spawn(|| phone.enter(&meeting));
        }
    });
    wait_for_participants(&server, &meeting.id, CALLERS.len());
    assert_kinds(&server, &meeting.id);
    asterisk.assert_ports_are_shared(4);
    sleep(TALK);
    for phone in &mut phones {
        phone.write("\n/quit\n");
    }
    for (own, phone) in phones.into_iter().enumerate() {
        let recording = phone.finish();
        let name = format!("{:?} {}", CALLERS[own].0, CALLERS[own].1.codec);
        let levels: Vec<f64> = CALLERS.iter().map(|(_, v)| recording.level(v)).collect();
        eprintln!("{name}: {levels:.1?}");
        for (other, level) in levels.iter().enumerate() {
            if other == own {
                assert!(*level < SENT_DBFS - SEPARATION_DB, "{name} hears himself");
            } else {
                let error = (level - SENT_DBFS).abs();
                assert!(error <= LEVEL_ERROR_DB, "{name}, wrong level: {levels:.1?}");
            }
        }
    }
    asterisk.assert_nothing_is_left();
    let records = server.calls();
    let by_asterisk = records.iter().filter(|call| call["kind"] == "asterisk");
    assert_eq!(by_asterisk.clone().count(), 4);
    assert!(
        by_asterisk.clone().all(|call| call["outcome"] == "joined"),
        "{records:?}"
    );
}

/// What the phones speak is what the legs speak, except that Opus becomes G.722.
fn assert_kinds(server: &Server, meeting: &str) {
    let people = server.get(&format!("/v1/meetings/{meeting}/participants"));
    let mut codecs: Vec<(&str, &str)> = people["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| (text(&item["kind"]), text(&item["codec"])))
        .collect();
    codecs.sort_unstable();
    let wanted = [
        ("asterisk", "G722"),
        ("asterisk", "G722"),
        ("asterisk", "PCMA"),
        ("asterisk", "PCMU"),
        ("sip", "PCMU"),
        ("sip", "opus"),
    ];
    assert_eq!(codecs, wanted, "{people}");
}

#[test]
fn a_pin_by_asterisk_arrives_as_info_as_tones_and_as_events() {
    let asterisk = Asterisk::start();
    let server = asterisk.server("");
    let meeting = server.book(&json!({}));
    let mut by_info = Scenario::new("uac-pin-by-info");
    for (position, digit) in meeting.guest.chars().enumerate() {
        by_info = by_info.key(&format!("digit{position}"), &digit.to_string());
    }
    let tones = format!("{}#", meeting.guest);
    let scenarios = [
        by_info,
        // The number says which endpoint it is: one that listens for tones.
        Scenario::new("uac-pin-in-band")
            .in_band_keys(&tones)
            .number("1001"),
        Scenario::new("uac-right-pin").key("pin", &meeting.guest),
    ];
    for (known, scenario) in scenarios.into_iter().enumerate() {
        let name = scenario.name.to_owned();
        scenario.by(asterisk.sip).run(&server);
        let call = server.call_after(known);
        assert_eq!(call["outcome"], "joined", "{name}: {call}");
        assert_eq!(call["kind"], "asterisk", "{name}: {call}");
        assert_eq!(call["number"], "1000", "{name}: {call}");
    }
    asterisk.assert_nothing_is_left();
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Asterisk,
    Direct,
}

/// A running Asterisk with the shipped files, and a trunk that takes everybody on the loopback device.
pub(crate) struct Asterisk {
    folder: tempfile::TempDir,
    pub(crate) sip: u16,
    pub(crate) http: u16,
    /// The first of its ports for media.
    pub(crate) rtp: u16,
    /// How nodes send it requests.
    pub(crate) rest: &'static str,
    /// What else stands in their `[[asterisk]]`.
    pub(crate) more: &'static str,
}

impl Asterisk {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let etc = folder.path().join("etc");
        fs::create_dir(&etc).expect("made");
        let write = |name: &str, text: &str| fs::write(etc.join(name), text).expect("written");
        let ari = shipped("asterisk/ari.conf").replace("change-this-password", PASSWORD);
        write("ari.conf", &format!("[general]\nenabled = yes\n{ari}"));
        let http = shipped("asterisk/http.conf").replace("8088", "@HTTP_PORT@");
        write("http.conf", &http);
        let peer = shipped("asterisk/pjsip.conf");
        write("pjsip.conf", &format!("{PJSIP}\n{peer}"));
        let dialplan = ["stasis", "voicebridge", "voicebridge-out"]
            .map(|name| shipped(&format!("dialplans/{name}.conf")));
        write(
            "extensions.conf",
            &format!("{EXTENSIONS}{}", dialplan.join("\n")),
        );
        let asterisk = Self {
            folder,
            sip: port(),
            http: port(),
            rtp: ports(RTP_PORTS),
            rest: "auto",
            more: "",
        };
        asterisk.start_again();
        asterisk
    }

    /// Another one in its place.
    pub(crate) fn start_again(&self) {
        let (first, last) = (self.rtp, self.rtp + RTP_PORTS - 1);
        let started = script()
            .arg("start")
            .args([&self.run(), &self.folder.path().join("etc")])
            .arg(format!("sip={}", self.sip))
            .arg(format!("http={}", self.http))
            .arg(format!("rtp={first}-{last}"))
            .output()
            .expect("bash runs");
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(started.status.success(), "{said}");
    }

    /// Changes one of its files; it reads that when told so.
    pub(crate) fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.run().join("etc").join(file);
        let text = fs::read_to_string(&path).expect("it is there");
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replacen(from, to, 1)).expect("written");
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = fs::read_to_string(self.run().join("pid")).expect("its pid");
        signal(pid.trim().parse().expect("a number"), name);
    }

    /// A node that is connected to it.
    pub(crate) fn server(&self, extra: &str) -> Server {
        self.server_by(self.http, extra)
    }

    /// A node that is connected to it by way of this port.
    pub(crate) fn server_by(&self, port: u16, extra: &str) -> Server {
        self.node(port, "voicebridge-voicebridge", "", extra)
    }

    /// A node that calls people by this template.
    pub(crate) fn that_dials(&self, template: &str, extra: &str) -> Server {
        let dial = format!("dial = {template:?}");
        self.connected(self.http, "voicebridge-voicebridge", &dial, extra)
    }

    /// One of several nodes, by its app, with the app of another that it takes over from.
    pub(crate) fn node(&self, port: u16, app: &str, other: &str, extra: &str) -> Server {
        let take_over = match other {
            "" => String::new(),
            other => format!("take_over = [{other:?}]"),
        };
        self.connected(port, app, &take_over, extra)
    }

    /// A node, with these lines more about its Asterisk.
    fn connected(&self, port: u16, app: &str, lines: &str, extra: &str) -> Server {
        let server = Server::start(&format!(
            "{extra}\n[[asterisk]]\nname = \"pbx\"\nurl = \"http://127.0.0.1:{port}\"\nuser = \"voicebridge\"\npassword = \"{PASSWORD}\"\napp = {app:?}\nrest = {rest:?}\n{lines}\n{more}\n",
            rest = self.rest,
            more = self.more,
        ));
        server.remember(&[PASSWORD]);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.cli("ari show apps").contains(app) {
            assert!(
                Instant::now() < deadline,
                "not connected:\n{}",
                server.log()
            );
            sleep(Duration::from_millis(50));
        }
        server
    }

    pub(crate) fn cli(&self, command: &str) -> String {
        let output = script()
            .arg("cli")
            .args([self.run(), PathBuf::from(command)])
            .output()
            .expect("bash runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it warned of since it started.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = fs::read_to_string(self.run().join("log/messages")).expect("its log");
        let complains = |line: &&str| line.contains("WARNING") || line.contains("ERROR");
        log.lines()
            .filter(complains)
            // About a module's own documentation; nothing that was configured.
            .filter(|line| !line.contains("minimum_size"))
            .map(str::to_owned)
            .collect()
    }

    /// No channel and no bridge.
    pub(crate) fn assert_nothing_is_left(&self) {
        self.assert_channels_and_bridges(0, 0);
    }

    /// So many, within some seconds.
    pub(crate) fn assert_channels_and_bridges(&self, wanted: usize, wanted_bridges: usize) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let (channels, bridges) = (self.cli("core show channels"), self.cli("bridge show all"));
            let active = channels
                .lines()
                .find_map(|line| line.strip_suffix(" active channels"));
            let active: Option<usize> = active.and_then(|number| number.trim().parse().ok());
            if active == Some(wanted) && bridges.lines().count() == wanted_bridges + 1 {
                return;
            }
            assert!(Instant::now() < deadline, "{channels}\n{bridges}");
            sleep(Duration::from_millis(100));
        }
    }

    /// Its channels for our callers send to no more ports of ours than there can be media threads.
    pub(crate) fn assert_ports_are_shared(&self, callers: usize) {
        let channels = self.cli("core show channels concise");
        let names = channels.split("UnicastRTP/127.0.0.1:").skip(1);
        let ports: Vec<&str> = names.filter_map(|rest| rest.split('-').next()).collect();
        let different: std::collections::BTreeSet<&&str> = ports.iter().collect();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(ports.len(), callers, "{channels}");
        assert!(different.len() <= threads.min(callers - 1), "{channels}");
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }
}

impl Drop for Asterisk {
    fn drop(&mut self) {
        let _stopped = script().arg("stop").arg(self.run()).status();
    }
}

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/asterisk"))
}

fn shipped(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).expect("it ships")
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

const CALLERS: [(Way, Voice); 6] = [
    (Way::Asterisk, PCMU),
    (Way::Asterisk, PCMA),
    (Way::Asterisk, G722),
    (Way::Asterisk, OPUS),
    (
        Way::Direct,
        Voice {
            tone_hz: 2_150.0,
            on_ms: 330,
            off_ms: 270,
            ..PCMU
        },
    ),
    (
        Way::Direct,
        Voice {
            tone_hz: 2_900.0,
            on_ms: 380,
            off_ms: 210,
            ..OPUS
        },
    ),
];

pub(crate) const PASSWORD: &str = "canary-of-the-ari-user";
const EXTENSIONS: &str = "[general]\nstatic = yes\nwriteprotect = yes\n\n[moved]\n\
    exten => 42,1,Set(GLOBAL(MOVED)=${VOICEBRIDGE_OUTCOME})\n \
    same => n,Wait(10)\n \
    same => n,Hangup()\n\n\
    [inbound]\n\
    exten => _+39061234567X,1,Goto(phones,${EXTEN},1)\n\
    exten => _2X.,1,Stasis(voicebridge-voicebridge,number=1000,pin=${EXTEN:1})\n \
    same => n,Hangup()\n\
    exten => _5X.,1,Dial(PJSIP/${EXTEN:1}@by-md5)\n \
    same => n,Hangup()\n\
    exten => _6X.,1,Dial(PJSIP/${EXTEN:1}@by-sha-256)\n \
    same => n,Hangup()\n\
    exten => _100X,1,Gosub(voicebridge-enter,s,1(voicebridge-voicebridge,1000,en))\n \
    same => n,Hangup()\ninclude => voicebridge-stasis\ninclude => voicebridge-examples\n\n\
    [phones]\nexten => _+39061234567X,1,Dial(PJSIP/carrier/sip:${EXTEN}@127.0.0.1:$[PHONES + 2 * ${EXTEN:-1}])\n \
    same => n,Hangup(${HANGUPCAUSE})\n\n";
const PJSIP: &str = "[global]\ntype = global\nendpoint_identifier_order = request_uri,auth_username,username,ip\n\n\
    [udp]\ntype = transport\nprotocol = udp\nbind = 127.0.0.1:@SIP_PORT@\n\n\
    [tcp]\ntype = transport\nprotocol = tcp\nbind = 127.0.0.1:@SIP_PORT@\n\n\
    [phones](!)\ntype = endpoint\ncontext = inbound\ndisallow = all\nallow = ulaw,alaw,g722,opus\n\
    direct_media = no\n\n\
    [by-md5](phones)\naors = by-md5\nauth = by-md5\nfrom_domain = trunk.example\n100rel = peer_supported\n\n\
    [by-md5]\ntype = aor\nmax_contacts = 1\nremove_existing = yes\n\n\
    [by-md5]\ntype = auth\nauth_type = digest\nusername = by-md5\npassword = canary-of-the-trunk\n\n\
    [by-sha-256](phones)\naors = by-sha-256\nauth = by-sha-256\n\n\
    [by-sha-256]\ntype = aor\nmax_contacts = 1\nremove_existing = yes\n\n\
    [by-sha-256]\ntype = auth\nauth_type = digest\nusername = by-sha-256\npassword = canary-of-the-trunk\n\
    supported_algorithms_uas = SHA-256\n\n\
    [info](phones)\ndtmf_mode = auto_info\n\n\
    [info]\ntype = identify\nendpoint = info\nmatch = 127.0.0.1\n\n\
    [tones](phones)\ndtmf_mode = auto\n\n\
    [carrier](phones)\naors = carrier\n\n[carrier]\ntype = aor\ncontact = sip:127.0.0.1:5099\n\n\
    [tones]\ntype = identify\nendpoint = tones\nmatch_request_uri = /^sip:1001@/\n";
/// Two calls of two ports each for every caller: enough for 250.
const RTP_PORTS: u16 = 1_000;
