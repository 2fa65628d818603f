//! What ships beside the program: every file is read as its reader would, so that a slip is found
//! here and not on an operator's machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use voicebridge::config::{Config, ConfigError, KEYS, Reload};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The sample configuration, read as people read it: prose, defaults and examples.
struct Sample {
    /// Without any `#` removed.
    text: String,
    /// Every key, with the prose above it.
    keys: Vec<SampleKey>,
    /// With the defaults' `#` removed.
    defaults: String,
    /// With every key's `#` removed.
    everything: String,
}

struct SampleKey {
    path: String,
    prose: String,
}

impl Sample {
    fn read() -> Self {
        let text = read("deploy/voicebridge.toml");
        let mut sample = Self {
            keys: Vec::new(),
            defaults: String::new(),
            everything: String::new(),
            text: text.clone(),
        };
        let (mut section, mut prose, mut example) = (String::new(), String::new(), false);
        for line in text.lines() {
            let begins_a_key =
                |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
            let commented = line.strip_prefix('#').filter(|rest| begins_a_key(rest));
            if line.is_empty() {
                prose.clear();
                example = false;
            } else if line.starts_with('#') && commented.is_none() {
                prose.push_str(line);
                prose.push('\n');
                example |= line.ends_with("Example:");
            }
            let header = line
                .strip_prefix('[')
                .or_else(|| commented?.strip_prefix('['));
            if let Some(header) = header {
                section = header.trim_matches(['[', ']']).to_owned();
            } else if let Some((key, _)) = commented.and_then(|rest| rest.split_once(" = ")) {
                sample.keys.push(SampleKey {
                    path: format!("{section}.{key}"),
                    prose: prose.clone(),
                });
            }
            sample.add(line, commented, example);
        }
        sample
    }

    fn add(&mut self, line: &str, commented: Option<&str>, example: bool) {
        let default = if example {
            line
        } else {
            commented.unwrap_or(line)
        };
        self.defaults.push_str(default);
        self.defaults.push('\n');
        self.everything.push_str(commented.unwrap_or(line));
        self.everything.push('\n');
    }
}

fn parse(text: &str) -> Result<Config, Vec<ConfigError>> {
    Config::parse(Path::new("voicebridge.toml"), text, []).map_err(|errors| errors.0)
}

#[test]
fn the_sample_as_it_ships_is_the_default() {
    assert_eq!(parse(&Sample::read().text), Ok(Config::default()));
}

#[test]
fn what_the_sample_calls_a_default_is_one() {
    let sample = Sample::read();
    assert_eq!(parse(&sample.defaults), Ok(Config::default()));
    let shown = sample
        .defaults
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with('#'))
        .count();
    assert!(
        shown > 20,
        "only {shown} defaults were found: is the sample read rightly?"
    );
}

#[test]
fn the_sample_s_examples_are_right() {
    let config = parse(&Sample::read().everything).unwrap();
    assert_eq!((config.sip.trunks.len(), config.asterisks.len()), (1, 1));
}

#[test]
fn the_sample_explains_every_key_and_when_a_change_counts() {
    let sample = Sample::read();
    for info in KEYS {
        let key = sample.keys.iter().find(|key| key.path == info.path);
        let key = key.unwrap_or_else(|| panic!("{} is not in the sample", info.path));
        assert!(!key.prose.is_empty(), "{} is not explained", info.path);
        assert_eq!(
            key.prose.contains("SIGHUP"),
            info.reload == Reload::Live,
            "{}:\n{}",
            info.path,
            key.prose
        );
    }
    assert_eq!(
        sample.keys.len(),
        KEYS.len(),
        "the sample has keys that don't exist, or one twice"
    );
}

#[test]
fn the_unit_starts_what_is_installed_and_leaves_time_to_drain() {
    let unit = read("deploy/voicebridge.service");
    let value = |key: &str| {
        unit.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .unwrap_or_else(|| panic!("{key}"))
    };
    assert_eq!(
        value("ExecStart"),
        "/usr/local/bin/voicebridge serve --config /etc/voicebridge/voicebridge.toml"
    );
    let stop: u64 = value("TimeoutStopSec").parse().unwrap();
    assert!(stop > Config::default().node.drain_timeout.as_secs());
    let files: usize = value("LimitNOFILE").parse().unwrap();
    assert!(files > 4 * Config::default().limits.calls);
}

/// A folder with everything that `make install` puts below DESTDIR; the program is a stand-in.
fn installed() -> tempfile::TempDir {
    let destination = tempfile::tempdir().expect("a temporary folder can be made");
    let program = destination.path().join("stand-in");
    fs::copy("/bin/true", &program).expect("/bin/true can be copied");
    let make = Command::new("make")
        .current_dir(root())
        .arg("install")
        .arg(format!(
            "DESTDIR={}",
            destination.path().join("root").display()
        ))
        .arg(format!("PROGRAM={}", program.display()))
        .output()
        .expect("make runs");
    assert!(
        make.status.success(),
        "{}",
        String::from_utf8_lossy(&make.stderr)
    );
    destination
}

#[test]
fn make_install_puts_everything_in_its_place() {
    let destination = installed();
    let root = destination.path().join("root");
    for file in [
        "usr/local/bin/voicebridge",
        "usr/local/lib/systemd/system/voicebridge.service",
        "usr/local/lib/sysusers.d/voicebridge.conf",
        "usr/local/share/doc/voicebridge/README.md",
        "usr/local/share/doc/voicebridge/docs/operating.md",
        "usr/local/share/doc/voicebridge/asterisk/pjsip.conf",
        "usr/local/share/doc/voicebridge/dialplans/voicebridge.conf",
        "etc/voicebridge/voicebridge.toml",
    ] {
        assert!(root.join(file).is_file(), "{file}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let destination = installed();
    let root = destination.path().join("root");
    let unit = destination.path().join("voicebridge.service");
    let program = root.join("usr/local/bin/voicebridge");
    let text = read("deploy/voicebridge.service")
        .replace("/usr/local/bin/voicebridge", program.to_str().unwrap());
    fs::write(&unit, text).unwrap();
    let verdict = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output()
        .expect("systemd-analyze runs");
    let said = String::from_utf8_lossy(&verdict.stderr);
    assert!(verdict.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn the_container_copies_what_exists() {
    let text = read("deploy/Containerfile");
    let copied: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
        .collect();
    assert!(copied.len() >= 2);
    for line in copied {
        let source = line.split(' ').next().unwrap();
        assert!(root().join(source).exists(), "{line}");
    }
}

#[test]
fn every_script_is_valid_bash_and_executable() {
    use std::os::unix::fs::PermissionsExt;
    let sourced = ["scripts/packages"];
    let mut scripts: Vec<PathBuf> = fs::read_dir(root().join("scripts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scripts.push(root().join(".ci/run"));
    assert!(scripts.len() > 3);
    for script in scripts.iter().filter(|path| path.is_file()) {
        let is_bash = fs::read_to_string(script)
            .unwrap()
            .starts_with("#!/bin/bash")
            || sourced.iter().any(|name| script.ends_with(name));
        if is_bash {
            let check = Command::new("bash").arg("-n").arg(script).output().unwrap();
            assert!(
                check.status.success(),
                "{}: {}",
                script.display(),
                String::from_utf8_lossy(&check.stderr)
            );
        }
        if !sourced.iter().any(|name| script.ends_with(name)) {
            let mode = fs::metadata(script).unwrap().permissions().mode();
            assert!(mode & 0o111 != 0, "{} can't be run", script.display());
        }
    }
}

/// A section of an Asterisk configuration: its name and its `key = value` lines.
type AsteriskSection = (String, Vec<(String, String)>);

/// Reads a file as Asterisk would; a line that is neither section nor setting is a slip.
fn asterisk_sections(path: &str) -> Vec<AsteriskSection> {
    let mut sections: Vec<AsteriskSection> = Vec::new();
    for line in read(path).lines() {
        let line = line.split(';').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            sections.push((name.to_owned(), Vec::new()));
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .unwrap_or_else(|| panic!("{path}: {line}"));
        let setting = (
            key.trim().to_owned(),
            value.trim_start_matches('>').trim().to_owned(),
        );
        sections
            .last_mut()
            .unwrap_or_else(|| panic!("{path}: {line} stands in no section"))
            .1
            .push(setting);
    }
    sections
}

#[test]
fn the_asterisk_peer_has_an_address_and_an_endpoint_that_uses_it() {
    let sections = asterisk_sections("asterisk/pjsip.conf");
    let of_type = |wanted: &str| {
        let is_it = |(key, value): &(String, String)| key == "type" && value == wanted;
        &sections
            .iter()
            .find(|(_, settings)| settings.iter().any(is_it))
            .unwrap_or_else(|| panic!("no {wanted}"))
            .1
    };
    let get = |settings: &[(String, String)], key: &str| {
        settings
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
    };
    assert_eq!(
        get(of_type("aor"), "contact").as_deref(),
        Some("sip:127.0.0.1:5062")
    );
    assert_eq!(
        get(of_type("endpoint"), "aors").as_deref(),
        Some("voicebridge")
    );
    assert_eq!(
        get(of_type("endpoint"), "dtmf_mode").as_deref(),
        Some("rfc4733")
    );
    assert_eq!(
        get(of_type("endpoint"), "direct_media").as_deref(),
        Some("no")
    );
}

#[test]
fn the_dialplan_only_goes_where_it_exists() {
    let sections = asterisk_sections("dialplans/voicebridge.conf");
    let contexts: Vec<_> = sections.iter().map(|(name, _)| name.as_str()).collect();
    let lines: Vec<_> = sections.iter().flat_map(|(_, settings)| settings).collect();
    assert!(lines.iter().all(|(key, _)| key == "exten" || key == "same"));
    let dials: Vec<_> = lines
        .iter()
        .filter(|(_, value)| value.contains("Dial("))
        .collect();
    assert!(
        !dials.is_empty()
            && dials
                .iter()
                .all(|(_, value)| value.contains("Dial(PJSIP/${EXTEN}@voicebridge"))
    );
    let handlers = lines
        .iter()
        .filter_map(|(_, value)| value.split_once(",b(")?.1.split('^').next());
    for handler in handlers {
        assert!(contexts.contains(&handler), "{handler}");
    }
    let endpoint_context = read("asterisk/pjsip.conf")
        .lines()
        .find_map(|line| line.strip_prefix("context = ").map(str::to_owned));
    assert!(contexts.contains(&endpoint_context.unwrap().as_str()));
    assert!(
        lines.iter().all(|(_, value)| !value.contains("Stasis(")),
        "ARI is not built yet"
    );
}
