//! The phone of a cell, whichever client it is.

use crate::baresip::{Phone, Recording};
use crate::server::Meeting;

use super::linphone::Linphone;
use super::{LISTENER_HZ, WINDOW_SECONDS, is_as_sent};

pub(super) enum Caller {
    Baresip(Phone),
    Linphone(Linphone),
}

impl From<Phone> for Caller {
    fn from(phone: Phone) -> Self {
        Self::Baresip(phone)
    }
}

impl Caller {
    pub(super) fn enter(&mut self, meeting: &Meeting) {
        match self {
            Self::Baresip(phone) => phone.enter(meeting),
            Self::Linphone(phone) => phone.enter(meeting),
        }
    }

    pub(super) fn key_in(&mut self, keys: &str) {
        match self {
            Self::Baresip(phone) => phone.key_in(keys),
            Self::Linphone(phone) => phone.key_in(keys),
        }
    }

    pub(super) fn level(&self, tone_hz: f64) -> Option<f64> {
        let heard: Option<Recording> = match self {
            Self::Baresip(phone) => phone.has_heard(WINDOW_SECONDS),
            Self::Linphone(phone) => phone.has_heard(WINDOW_SECONDS),
        };
        Some(heard?.level_of(tone_hz))
    }

    pub(super) fn hold(&mut self, on: bool) {
        match self {
            Self::Baresip(phone) => phone.write(if on { "x" } else { "X" }),
            Self::Linphone(phone) => phone.hold(on),
        }
    }

    /// Is there audio for it after a hold?
    pub(super) fn receives(&self) -> bool {
        match self {
            Self::Baresip(phone) => {
                let said = phone.said();
                let shown = said.lines().rev().find_map(|line| {
                    let (_, rates) = line.split_once("audio=")?;
                    let (_, received) = rates.split_once('/')?;
                    received.split_whitespace().next()?.parse::<u32>().ok()
                });
                shown.is_some_and(|rate| rate > 5_000)
            }
            Self::Linphone(_) => self.level(LISTENER_HZ).is_some_and(is_as_sent),
        }
    }

    pub(super) fn hang_up(&mut self) {
        match self {
            Self::Baresip(phone) => phone.write("b"),
            Self::Linphone(phone) => phone.write("terminate"),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Baresip(phone) => phone.said().contains(" terminated (duration"),
            Self::Linphone(phone) => phone.said().contains(" ended ("),
        }
    }

    pub(super) fn last_said(&self) -> String {
        let said = match self {
            Self::Baresip(phone) => phone.said(),
            Self::Linphone(phone) => phone.said(),
        };
        let lines = said.lines().filter(|line| !line.trim().is_empty());
        let lines: Vec<&str> = lines.collect();
        lines[lines.len().saturating_sub(20)..].join(" | ")
    }
}
