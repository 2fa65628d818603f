//! The keys of one leg, by whichever way they come, until somebody asks for them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::media::codec::Codec;
use crate::media::dtmf::KeyPress;
use crate::media::dtmf::event::EventReceiver;
use crate::media::dtmf::inband::InbandDetector;
use crate::media::parameters::MediaParameters;
use crate::media::prefetch::prefetch;
use crate::media::rtp::RtpHeader;
use crate::units::FRAME;

/// Collects presses.
#[derive(Debug)]
pub(super) struct Keys {
    source: Source,
    /// Tones that are sent beside the events.
    beside: Beside,
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
            beside: Beside::default(),
            pressed: VecDeque::with_capacity(PRESSED_MAX),
        }
    }

    /// Before a frame is listened to.
    pub(super) fn prefetch(&self) {
        self.prefetch_pressed();
        prefetch(&self.source);
        prefetch(&self.beside);
    }

    /// Before it is asked for any.
    pub(super) fn prefetch_pressed(&self) {
        prefetch(&self.pressed);
    }

    pub(super) fn take_event(&mut self, now: Instant, header: &RtpHeader, payload: &[u8]) {
        if let Source::Events(events) = &mut self.source {
            let press = events.handle_event(now, header.timestamp, header.marker, payload);
            self.push(press);
        }
    }

    /// Once per frame. Silences a key's tones; true if the frame was silenced. What came together with
    /// the events of a key that is being pressed is played `delay` later. `patched`: a part of the
    /// frame was made up because something was lost.
    pub(super) fn listen(
        &mut self,
        now: Instant,
        delay: Option<Duration>,
        patched: bool,
        frame: &mut [i16],
    ) -> bool {
        let (press, silenced) = match &mut self.source {
            Source::Events(events) => {
                let press = events.poll(now);
                (press, self.beside.silence(delay, frame))
            }
            Source::Inband(detector) => {
                let press = detector.process(frame, patched);
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

    /// Another one has had the same peer's keys until now: what it has not told is told here, and what it has
    /// had doesn't come again.
    pub(super) fn go_on_from(&mut self, now: Instant, earlier: &mut Self) {
        while let Some(press) = earlier.poll() {
            self.push(Some(press));
        }
        let press = match (&mut self.source, &mut earlier.source) {
            (Source::Events(events), Source::Events(earlier)) => events.go_on_from(now, earlier),
            (_, Source::Events(earlier)) => earlier.restart(now),
            (_, Source::Inband(_) | Source::None) => None,
        };
        self.push(press);
    }

    pub(super) fn poll(&mut self) -> Option<KeyPress> {
        self.pressed.pop_front()
    }

    /// Is a key event being received?
    pub(super) const fn is_pressed(&self) -> bool {
        matches!(&self.source, Source::Events(events) if events.is_pressed())
    }

    /// Do keys come in the sound itself?
    pub(super) const fn listens_to_tones(&self) -> bool {
        matches!(self.source, Source::Inband(_))
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

/// Some senders leave the tone in the audio while they send its events: it is silenced from the
/// first event until what came with the last one is played.
#[derive(Debug, Default)]
struct Beside {
    /// Frames still to be silenced.
    left: usize,
    silenced: bool,
}

impl Beside {
    fn silence(&mut self, delay: Option<Duration>, frame: &mut [i16]) -> bool {
        let frames = |delay: Duration| (delay.as_millis() / FRAME.as_millis()) as usize;
        self.left = delay.map_or(self.left.saturating_sub(1), |delay| {
            frames(delay) + FRAMES_AFTER
        });
        let before = std::mem::replace(&mut self.silenced, self.left > 0);
        let ramp = (frame.len() / 4).max(1);
        for (n, sample) in frame.iter_mut().enumerate() {
            let way = n.min(ramp) as i32;
            let share = match (before, self.silenced) {
                (false, false) => return false,
                (true, true) => 0,
                (false, true) => ramp as i32 - way,
                (true, false) => way,
            };
            *sample = (i32::from(*sample) * share / ramp as i32) as i16;
        }
        self.silenced
    }
}

/// Of the last frame only a part may have been played, and a packet may end within the next.
const FRAMES_AFTER: usize = 3;
/// More than anybody types between two polls.
const PRESSED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_beside_its_events_is_silenced_until_it_is_played() {
        let mut beside = Beside::default();
        let delay = Duration::from_millis(45);
        let mut heard = Vec::new();
        // Pressed for 5 frames; the tone comes out of the jitter buffer 3 frames later.
        for n in 0..20 {
            let mut frame = [if (13..18).contains(&(n + 10)) {
                9_000
            } else {
                0
            }; 160];
            assert_eq!(beside.silence((n < 5).then_some(delay), &mut frame), n < 9);
            heard.extend(frame);
        }
        assert!(heard.iter().all(|sample| *sample == 0));
        let mut voice = [1_000_i16; 160];
        assert!(!beside.silence(None, &mut voice));
        assert_eq!(voice, [1_000; 160]);
        assert!(beside.silence(Some(delay), &mut voice));
        let steepest = voice.windows(2).map(|pair| (pair[0] - pair[1]).abs()).max();
        assert!(steepest <= Some(25) && voice[159] == 0);
    }
}
