//! `voicebridge check` with an Asterisk that is as it should be, and with what operators get wrong.

use std::fs;
use std::process::Command;

use crate::asterisk::{Asterisk, PASSWORD};
use crate::ports::{port, ports};

#[test]
fn check_says_what_is_wrong_with_an_asterisk_and_what_to_change() {
    let asterisk = Asterisk::start();
    let sound = Setup {
        url: format!("http://127.0.0.1:{}", asterisk.http),
        password: PASSWORD,
        media: None,
        dial: "dial = 'PJSIP/{number}@carrier'",
    };
    let said = sound.check();
    for expected in [
        "ok       asterisk pbx: connected to Asterisk 2",
        "ok       asterisk pbx: audio passes in both directions",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(said.matches("asterisk pbx").count(), 2, "{said}");

    let mistakes = [
        (
            Setup {
                url: format!("http://127.0.0.1:{}", port()),
                ..sound.clone()
            },
            "is Asterisk running",
        ),
        (
            Setup {
                url: format!("{}/pbx", sound.url),
                ..sound.clone()
            },
            "is the url right",
        ),
        (
            Setup {
                password: "another",
                ..sound.clone()
            },
            "user or password is wrong",
        ),
        (
            Setup {
                media: Some(asterisk.rtp),
                ..sound.clone()
            },
            "rtpstart and rtpend in rtp.conf",
        ),
        (
            Setup {
                dial: "dial = 'PJSIP/nowhere/sip:{number}@192.0.2.1'",
                ..sound.clone()
            },
            "add [nowhere]",
        ),
    ];
    for (setup, named) in mistakes {
        setup.assert_fails(named);
    }

    assert_missing_modules_are_named(&asterisk, &sound);
    assert_mistakes_in_the_endpoint_are_named(&asterisk, &sound);
    asterisk.change("ari.conf", "read_only = no", "read_only = yes");
    asterisk.cli("module reload res_ari.so");
    sound.assert_fails("read_only = no");
    asterisk.change("ari.conf", "enabled = yes", "enabled = no");
    asterisk.cli("module reload res_ari.so");
    sound.assert_fails("enabled");
    asterisk.assert_nothing_is_left();
}

fn assert_missing_modules_are_named(asterisk: &Asterisk, sound: &Setup) {
    for (module, named) in [
        ("codec_opus_open_source", "no transcoder for Opus"),
        ("chan_rtp", "chan_rtp.so doesn't run"),
        ("res_ari_bridges", "load = res_ari_bridges.so"),
    ] {
        asterisk.cli(&format!("module unload {module}.so"));
        let said = sound.check();
        assert!(said.contains(named), "{named}:\n{said}");
        asterisk.cli(&format!("module load {module}.so"));
    }
}

fn assert_mistakes_in_the_endpoint_are_named(asterisk: &Asterisk, sound: &Setup) {
    let endpoint = |to: &str, named: &str| {
        let (key, _) = to.split_once('=').expect("a line");
        let from = SHIPPED.iter().find(|line| line.starts_with(key));
        let from = from.expect("a line that ships");
        asterisk.change("pjsip.conf", from, to);
        asterisk.cli("module reload res_pjsip.so");
        let said = sound.check();
        assert!(said.contains(named), "{named}:\n{said}");
        asterisk.change("pjsip.conf", to, from);
        asterisk.cli("module reload res_pjsip.so");
        said.contains("FAILED")
    };
    assert!(endpoint(
        "allow = gsm,slin\n",
        "allow = opus,g722,alaw,ulaw in pjsip.conf"
    ));
    assert!(!endpoint(
        "direct_media = yes\n; Passes",
        "direct_media = no in pjsip.conf"
    ));
    assert!(!endpoint(
        "dtmf_mode = inband",
        "dtmf_mode = rfc4733 in pjsip.conf"
    ));
}

/// What stands in `[[asterisk]]`.
#[derive(Clone)]
struct Setup {
    url: String,
    password: &'static str,
    /// The first of a thousand `media.ports`.
    media: Option<u16>,
    /// How people are called, as it is written.
    dial: &'static str,
}

impl Setup {
    fn assert_fails(&self, named: &str) {
        let said = self.check();
        let names_it = |line: &str| line.starts_with("FAILED") && line.contains(named);
        assert!(said.lines().any(names_it), "{named}:\n{said}");
    }

    fn check(&self) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("voicebridge.toml");
        let (first, count) = match self.media {
            Some(first) => (first, 1_000),
            None => (ports(2 * CALLS), 2 * CALLS),
        };
        let config = format!(
            "node.data_dir = {:?}\nsip.listen = [\"udp:127.0.0.1:{}\"]\nhttp.listen = \"127.0.0.1:{}\"\n\
             media.ports = \"{first}-{last}\"\nlimits.calls = {CALLS}\n\
             [[asterisk]]\nname = \"pbx\"\nurl = \"{}\"\nuser = \"voicebridge\"\npassword = \"{}\"\n{}\n",
            folder.path().join("data"),
            port(),
            port(),
            self.url,
            self.password,
            self.dial,
            last = first + count - 1,
        );
        fs::write(&file, config).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_voicebridge"))
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = said.lines().any(|line| line.starts_with("FAILED"));
        assert_eq!(output.status.success(), !failed, "{said}");
        assert!(!said.contains(PASSWORD), "{said}");
        said
    }
}

const CALLS: u16 = 20;
/// Lines of the endpoint that ships.
const SHIPPED: [&str; 3] = [
    "allow = opus,g722,alaw,ulaw\n",
    "direct_media = no\n; Passes",
    "dtmf_mode = rfc4733",
];
