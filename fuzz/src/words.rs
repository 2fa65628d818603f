//! What people write: configuration files, rules of repetition, numbers, PINs, names.

use std::path::Path;

use jiff::Timestamp;
use voicebridge::booking::meeting::Zone;
use voicebridge::booking::{
    CallerNumber, ConferenceName, KeySecret, NumberPlan, Pin, Recurrence, Repetitions, Schedule,
    Series,
};
use voicebridge::config::{Config, HostPort, ListenAddress, Network, PortRange};
use voicebridge::probe::Target;
use voicebridge::units::Language;

/// A configuration file. Files that it names are left alone.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if ["_file", "certificate", "tls.key"]
        .iter()
        .any(|name| text.contains(name))
    {
        return;
    }
    if let Err(errors) = Config::parse(Path::new("v.toml"), text, []) {
        assert!(!errors.to_string().is_empty());
    }
}

/// A rule, from the first line; after it, zone and excluded starts, a line each.
pub fn recurrences(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let rule = lines.next().unwrap_or_default().to_owned();
    let zone = lines.next().and_then(Zone::named);
    let Some(zone) = zone.or_else(|| Zone::named("Europe/Rome")) else {
        return;
    };
    let second = |at| Timestamp::from_second(at).expect("in range");
    let starts = second(1_800_000_000);
    let schedule = Schedule::new(starts, Some(second(1_800_003_600)), zone);
    let asked = Repetitions {
        rule,
        excluded: lines.take(8).filter_map(|line| line.parse().ok()).collect(),
        added: Default::default(),
    };
    let Ok(recurrence) = Recurrence::new(&asked, &schedule) else {
        return;
    };
    if let Some(series) = Series::of(&recurrence, &schedule) {
        let found = series.occurrences(starts, second(1_900_000_000), 20);
        assert!(found.len() <= 20);
    }
}

/// One word, read as everything that is a word somewhere.
pub fn single_words(data: &[u8]) {
    let Ok(word) = std::str::from_utf8(data) else {
        return;
    };
    let _pin = Pin::parse(word);
    let _key = KeySecret::parse(word);
    let _caller = CallerNumber::new(word);
    let numbers = NumberPlan::new(Vec::new());
    let _found = numbers.find(word);
    let _name = ConferenceName::read(word, &["meet.example.org".to_owned()]);
    let _language = word.parse::<Language>();
    let _listen = word.parse::<ListenAddress>();
    let _network = word.parse::<Network>();
    let _ports = word.parse::<PortRange>();
    let _host = word.parse::<HostPort>();
    let _target = Target::parse(word);
    let _emergency = voicebridge::call::is_emergency(word);
    for kind in ["application/dtmf-relay", "application/dtmf", word] {
        let _key = voicebridge::sip::dtmf_info::parse(kind, data);
    }
}
