//! Encoded once for all who hear the same: the listeners of one codec in one bridge share an
//! encoder. A leg that parts from them takes the encoder's state along, so that its peer's
//! decoder notices nothing; it comes back only where the difference between the two states can't
//! be heard.

use crate::media::codec::{Codec, Encoder};
use crate::media::leg::{Hears, Leg};
use crate::media::limiter::Limiter;
use crate::media::mixer::Comfort;
use crate::media::mixer::sum::Sums;
use crate::media::sender::PacketBuffer;
use crate::units::FRAME_SAMPLES_MAX;

/// The shared encoder of one codec in one bridge.
pub(super) struct Group {
    codec: Codec,
    /// `None` until somebody may hear it: then everybody has a mix of his own.
    encoder: Option<Box<Encoder>>,
    limiter: Limiter,
    /// Mean square of what everybody hears: of the last frame, and of this one.
    power: [f32; 2],
    /// This frame predicts nothing from earlier ones.
    anew: bool,
    /// Frames since one did.
    since_anew: u8,
    /// Legs that hear it. With none, its state is nobody's.
    listeners: u32,
}

impl Group {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            encoder: None,
            limiter: Limiter::default(),
            power: [0.0; 2],
            anew: false,
            since_anew: 0,
            listeners: 0,
        }
    }

    /// Its encoder comes; returned where there is one already.
    pub(super) fn equip(&mut self, encoder: Box<Encoder>) -> Option<Box<Encoder>> {
        if self.encoder.is_some() {
            return Some(encoder);
        }
        self.encoder = Some(encoder);
        None
    }

    /// A frame begins: how loud is what everybody is going to hear? G.711 need not know.
    pub(super) fn begin(&mut self, sums: &Sums) {
        if self.listeners > 0 && !is_stateless(self.codec) {
            let total = sums.total(self.codec.sample_rate());
            let energy: f32 = total.iter().map(|sample| (*sample as f32).powi(2)).sum();
            self.power = [self.power[1], energy / total.len() as f32];
        }
    }

    /// Decides what this leg hears in this frame, before any encoder has seen it.
    /// `comfort`: how much comfort noise those who hear the same had until now.
    pub(super) fn place(&mut self, leg: &mut Leg, own: bool, comfort: Comfort) {
        let own = own || self.encoder.is_none();
        match (leg.hears(), own) {
            (Hears::Shared, false) => {}
            (Hears::Shared, true) => self.part(leg, comfort),
            (Hears::Fresh, true) => {
                leg.codecs_mut().restart();
                leg.set_hears(OWN);
            }
            (Hears::Fresh, false) => self.take_fresh(leg),
            (Hears::Own { .. }, true) => leg.set_hears(OWN),
            (Hears::Own { alike, same }, false) if leg.codecs_mut().comfort == comfort => {
                self.take_back(leg, alike, same);
            }
            (Hears::Own { .. }, false) => leg.set_hears(OWN),
        }
    }

    /// The leg is gone from this codec or bridge.
    pub(super) fn detach(&mut self, leg: &mut Leg) {
        if leg.hears() == Hears::Shared {
            self.listeners = self.listeners.saturating_sub(1);
        }
        leg.set_hears(Hears::Fresh);
    }

    /// Encodes this frame, if anybody hears it.
    pub(super) fn encode(
        &mut self,
        sums: &Sums,
        narrow: &mut [i16; FRAME_SAMPLES_MAX],
        frame: &mut PacketBuffer,
    ) {
        let Some(encoder) = self.encoder.as_mut().filter(|_| self.listeners > 0) else {
            return;
        };
        let rate = self.codec.sample_rate();
        let narrow = &mut narrow[..rate.frame_samples()];
        self.limiter.process(sums.total(rate), narrow);
        let anew = std::mem::take(&mut self.anew);
        self.since_anew = if anew {
            0
        } else {
            self.since_anew.saturating_add(1)
        };
        frame.fill(|room| {
            let encoded = if anew {
                encoder.encode_unpredicted(narrow, room)
            } else {
                encoder.encode(narrow, room)
            };
            encoded.ok()
        });
    }

    #[cfg(test)]
    pub(super) const fn is_equipped(&self) -> bool {
        self.encoder.is_some()
    }

    pub(super) fn is_heard_by(&self, leg: &Leg) -> bool {
        leg.hears() == Hears::Shared
    }

    /// Shared to own: the state goes with it.
    fn part(&mut self, leg: &mut Leg, comfort: Comfort) {
        let codecs = leg.codecs_mut();
        let shared = self.encoder.as_ref();
        if shared.is_none_or(|shared| codecs.encoder.copy_state_from(shared).is_err()) {
            codecs.encoder.reset();
        }
        codecs.limiter = self.limiter;
        codecs.comfort = comfort;
        self.listeners = self.listeners.saturating_sub(1);
        leg.set_hears(OWN);
    }

    /// Whoever comes from prompts has no state to lose.
    fn take_fresh(&mut self, leg: &mut Leg) {
        if self.listeners == 0 {
            self.encoder.iter_mut().for_each(|encoder| encoder.reset());
            self.limiter.reset();
        }
        self.anew |= self.codec == Codec::Opus && self.since_anew >= ANEW_FRAMES;
        self.listeners += 1;
        leg.set_hears(Hears::Shared);
    }

    /// Where nobody pauses: this frame is encoded so that a decoder can go over to it. Opus can do that;
    /// once in a while, for it costs the others some quality, and best where a sound sets in: what differs
    /// is the end of the frame before.
    fn begins_anew_for(&mut self, same: u8) -> bool {
        let [before, now] = self.power;
        let fits = now >= ONSET * before || same >= SAME_FRAMES_MAX;
        let may = self.codec == Codec::Opus && self.since_anew >= ANEW_FRAMES;
        self.anew |= may && fits && same >= SAME_FRAMES;
        self.anew && same >= SAME_FRAMES
    }

    /// Own to shared. The first one gives its state; others wait until both have encoded the same
    /// quiet sound for some frames. G.711 has no state but the limiter's gain.
    fn take_back(&mut self, leg: &mut Leg, alike: u8, same: u8) {
        let codecs = leg.codecs_mut();
        if self.listeners == 0 {
            self.limiter = codecs.limiter;
            if let Some(encoder) = &mut self.encoder
                && encoder.copy_state_from(&codecs.encoder).is_err()
            {
                encoder.reset();
            }
        } else {
            let same_gain = self.limiter == codecs.limiter;
            let same = if same_gain { same.saturating_add(1) } else { 0 };
            let quiet = same_gain && self.power[1] <= QUIET_RMS * QUIET_RMS;
            let alike = if quiet { alike.saturating_add(1) } else { 0 };
            let settled = is_stateless(self.codec) && same_gain || alike > ALIKE_FRAMES;
            if !settled && !self.begins_anew_for(same) {
                leg.set_hears(Hears::Own { alike, same });
                return;
            }
        }
        self.listeners += 1;
        leg.set_hears(Hears::Shared);
    }
}

/// The mix of its own begins.
const OWN: Hears = Hears::Own { alike: 0, same: 0 };

const fn is_stateless(codec: Codec) -> bool {
    match codec {
        Codec::Pcmu | Codec::Pcma => true,
        Codec::G722 | Codec::Opus => false,
    }
}

/// -50 dBFS.
const QUIET_RMS: f32 = 103.6;
/// Quiet frames that both encoders have seen before a leg turns back. Two encoders of G.722 come
/// no nearer to each other however long they wait; a peer's decoder does, from the first shared
/// packet on, so the earlier in a pause, the better.
const ALIKE_FRAMES: u8 = 4;
/// Half a second of the same sound, none of it quiet, before a leg turns back nevertheless, at an onset.
const SAME_FRAMES: u8 = 25;
/// Two seconds, and it does without one.
const SAME_FRAMES_MAX: u8 = 100;
/// An onset is 10 dB louder than the frame before.
const ONSET: f32 = 10.0;
/// Half a second between two frames that are encoded anew.
const ANEW_FRAMES: u8 = 25;
