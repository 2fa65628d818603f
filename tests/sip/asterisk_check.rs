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
    ];
    for (setup, named) in mistakes {
        setup.assert_fails(named);
    }

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
    asterisk.change("ari.conf", "read_only = no", "read_only = yes");
    asterisk.cli("module reload res_ari.so");
    sound.assert_fails("read_only = no");
    asterisk.change("ari.conf", "enabled = yes", "enabled = no");
    asterisk.cli("module reload res_ari.so");
    sound.assert_fails("enabled");
    asterisk.assert_nothing_is_left();
}

/// What stands in `[[asterisk]]`.
#[derive(Clone)]
struct Setup {
    url: String,
    password: &'static str,
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
        let first = ports(2 * CALLS);
        let config = format!(
            "node.data_dir = {:?}\nsip.listen = [\"udp:127.0.0.1:{}\"]\nhttp.listen = \"127.0.0.1:{}\"\n\
             media.ports = \"{first}-{last}\"\nlimits.calls = {CALLS}\n\
             [[asterisk]]\nname = \"pbx\"\nurl = \"{}\"\nuser = \"voicebridge\"\npassword = \"{}\"\n",
            folder.path().join("data"),
            port(),
            port(),
            self.url,
            self.password,
            last = first + 2 * CALLS - 1,
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
