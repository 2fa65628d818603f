//! The keys of one leg, by whichever way they come, until somebody asks for them.

use std::collections::VecDeque;
use std::time::Instant;

use crate::media::codec::Codec;
use crate::media::dtmf::KeyPress;
use crate::media::dtmf::event::EventReceiver;
use crate::media::dtmf::inband::InbandDetector;
use crate::media::parameters::MediaParameters;
use crate::media::rtp::RtpHeader;

/// Collects presses.
#[derive(Debug)]
pub(super) struct Keys {
    source: Source,
    /// Never grows beyond what it was made with.
    pressed: VecDeque<KeyPress>,
}

#[derive(Debug)]
enum Source {
    Events(EventReceiver),
    Inband(Box<InbandDetector>),
    /// Opus without telephone-event: no tones survive it that one could trust.
    None,
}

impl Keys {
    pub(super) fn new(parameters: &MediaParameters) -> Self {
        let source = match (parameters.telephone_event, parameters.codec) {
            (Some(event), _) => Source::Events(EventReceiver::new(event.clock)),
            (None, Codec::Pcmu | Codec::Pcma | Codec::G722) => Source::Inband(Box::new(
                InbandDetector::new(parameters.codec.sample_rate()),
            )),
            (None, Codec::Opus) => Source::None,
        };
        Self {
            source,
            pressed: VecDeque::with_capacity(PRESSED_MAX),
        }
    }

    pub(super) fn take_event(&mut self, now: Instant, header: &RtpHeader, payload: &[u8]) {
        if let Source::Events(events) = &mut self.source {
            let press = events.handle_event(now, header.timestamp, header.marker, payload);
            self.push(press);
        }
    }

    /// Once per frame. Silences a key's tones; true if the frame was silenced.
    pub(super) fn listen(&mut self, now: Instant, frame: &mut [i16]) -> bool {
        let (press, silenced) = match &mut self.source {
            Source::Events(events) => (events.poll(now), false),
            Source::Inband(detector) => {
                let press = detector.process(frame);
                (press, detector.is_pressed())
            }
            Source::None => (None, false),
        };
        self.push(press);
        silenced
    }

    pub(super) fn restart(&mut self, now: Instant) {
        if let Source::Events(events) = &mut self.source {
            let press = events.restart(now);
            self.push(press);
        }
    }

    pub(super) fn poll(&mut self) -> Option<KeyPress> {
        self.pressed.pop_front()
    }

    /// Is a key event being received?
    pub(super) const fn is_pressed(&self) -> bool {
        matches!(&self.source, Source::Events(events) if events.is_pressed())
    }

    pub(super) const fn allocated(&self) -> usize {
        let detector = if matches!(self.source, Source::Inband(_)) {
            size_of::<InbandDetector>()
        } else {
            0
        };
        detector + PRESSED_MAX * size_of::<KeyPress>()
    }

    fn push(&mut self, press: Option<KeyPress>) {
        if self.pressed.len() < PRESSED_MAX {
            self.pressed.extend(press);
        }
    }
}

/// More than anybody types between two polls.
const PRESSED_MAX: usize = 16;
