//! Encoded once for all who hear the same: the listeners of one codec in one bridge share an
//! encoder. A leg that parts from them takes the encoder's state along, so that its peer's
//! decoder notices nothing. To come back it needs a decoder that has had nothing but shared packets, or
//! might have: in G.722 its encoder follows the shared one until both states are one; in Opus both go over
//! to another mode together, which decoders enter without a past.

use crate::media::codec::{Codec, Course, Encoder};
use crate::media::leg::{CodecSet, Hears, Leg};
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
    /// This frame predicts nothing from earlier ones.
    anew: bool,
    /// Frames, this one included, that cross to another mode.
    crossing: u8,
    /// Frames since one did either, which costs those who hear it some quality.
    plain: u8,
    /// Legs that hear it. With none, its state is nobody's.
    listeners: u32,
    /// What loss it is encoded for: of those with this codec, that of who loses most.
    loss_percent: u8,
}

impl Group {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            encoder: None,
            limiter: Limiter::default(),
            anew: false,
            crossing: 0,
            plain: 0,
            listeners: 0,
            loss_percent: 0,
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

    /// Decides what this leg hears in this frame, before any encoder has seen it.
    /// `comfort`: how much comfort noise those who hear the same had until now.
    pub(super) fn place(&mut self, leg: &mut Leg, own: bool, comfort: Comfort) {
        let own = own || self.encoder.is_none();
        match (leg.hears(), own) {
            (Hears::Shared | Hears::Following { .. }, false) => {}
            (Hears::Shared | Hears::Following { .. }, true) => self.part(leg, comfort),
            (Hears::Fresh, true) => {
                leg.codecs_mut().restart();
                leg.set_hears(OWN);
            }
            (Hears::Fresh, false) => self.take_fresh(leg),
            (Hears::Own { .. }, true) => leg.set_hears(OWN),
            (Hears::Own { same, met }, false) if leg.codecs_mut().comfort == comfort => {
                self.take_back(leg, same, met);
            }
            (Hears::Own { .. }, false) => leg.set_hears(OWN),
        }
        if let Hears::Own { same, .. } = leg.hears() {
            // On the way back it is encoded as for all others, or they never meet.
            let percent = if same > 0 {
                self.loss_percent
            } else {
                leg.loss_percent()
            };
            leg.codecs_mut().loss_percent = percent;
        }
    }

    /// What loss to encode for from now on.
    pub(super) const fn expect_loss(&mut self, percent: u8) {
        self.loss_percent = percent;
    }

    /// The leg is gone from this codec or bridge.
    pub(super) fn detach(&mut self, leg: &mut Leg) {
        if leg.hears().is_common() {
            self.listeners = self.listeners.saturating_sub(1);
        }
        leg.set_hears(Hears::Fresh);
    }

    /// Where its encoder is before this frame, for those who follow it.
    pub(super) fn course(&self) -> Option<Course> {
        let encoder = self.encoder.as_ref().filter(|_| self.listeners > 0)?;
        encoder.course()
    }

    /// Encodes this frame, if anybody hears it.
    pub(super) fn encode(
        &mut self,
        sums: &Sums,
        narrow: &mut [i16; FRAME_SAMPLES_MAX],
        frame: &mut PacketBuffer,
    ) {
        let anew = std::mem::take(&mut self.anew);
        let crosses = self.crossing > 0;
        self.crossing = self.crossing.saturating_sub(1);
        let plain = self.plain.saturating_add(1);
        self.plain = if anew || crosses { 0 } else { plain };
        let Some(encoder) = self.encoder.as_mut().filter(|_| self.listeners > 0) else {
            return;
        };
        let rate = self.codec.sample_rate();
        let narrow = &mut narrow[..rate.frame_samples()];
        self.limiter.process(sums.total(rate), narrow);
        frame.fill(|room| {
            encoder.expect_loss(self.loss_percent).ok()?;
            let encoded = match (crosses, anew) {
                (true, _) => encoder.encode_crossing(narrow, room),
                (false, true) => encoder.encode_unpredicted(narrow, room),
                (false, false) => encoder.encode(narrow, room),
            };
            encoded.ok()
        });
    }

    #[cfg(test)]
    pub(super) const fn is_equipped(&self) -> bool {
        self.encoder.is_some()
    }

    /// Shared to own: the state goes with it, unless it has one that its peer's decoder knows better.
    fn part(&mut self, leg: &mut Leg, comfort: Comfort) {
        let on_the_way = leg.hears() != Hears::Shared;
        let codecs = leg.codecs_mut();
        let taken = self.encoder.as_ref().is_some_and(|shared| {
            if on_the_way {
                codecs.encoder.continue_from(shared);
                return true;
            }
            codecs.encoder.copy_state_from(shared).is_ok()
        });
        if !taken {
            codecs.encoder.reset();
        }
        codecs.limiter = self.limiter;
        codecs.crossing = self.crossing;
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
        self.anew |= self.codec == Codec::Opus && self.plain >= PLAIN_FRAMES_ANEW;
        self.listeners += 1;
        leg.set_hears(Hears::Shared);
    }

    /// Own to shared. The first one gives its state; others wait until the limiters have the same gain, and
    /// then until their peers' decoders are where all the others' are. G.711 has no state beside that gain,
    /// G.722 is brought to the shared encoder's.
    fn take_back(&mut self, leg: &mut Leg, same: u8, met: bool) {
        let codecs = leg.codecs_mut();
        let hears = if self.listeners == 0 {
            self.give(codecs);
            Hears::Shared
        } else if self.limiter != codecs.limiter {
            OWN
        } else {
            match self.codec {
                Codec::Pcmu | Codec::Pcma => Hears::Shared,
                Codec::G722 => Hears::Following {
                    frames: 0,
                    taken: 0,
                },
                Codec::Opus if met && self.crossing == CROSSING_FRAMES - 1 => Hears::Shared,
                Codec::Opus => self.cross_with(codecs, same.saturating_add(1)),
            }
        };
        self.listeners += u32::from(hears.is_common());
        leg.set_hears(hears);
    }

    fn give(&mut self, codecs: &CodecSet) {
        self.limiter = codecs.limiter;
        self.crossing = codecs.crossing;
        if let Some(encoder) = &mut self.encoder
            && encoder.copy_state_from(&codecs.encoder).is_err()
        {
            encoder.reset();
        }
    }

    /// Once the two encoders have been given the same sound for a while, both cross over in this frame and
    /// in the next one; with luck they meet, else they try again later.
    fn cross_with(&mut self, codecs: &mut CodecSet, same: u8) -> Hears {
        let begins = self.crossing == 0 && self.plain >= PLAIN_FRAMES_CROSSING;
        if same >= SAME_FRAMES && (begins || self.crossing == CROSSING_FRAMES) {
            self.crossing = CROSSING_FRAMES;
            codecs.crossing = CROSSING_FRAMES;
        }
        Hears::Own { same, met: false }
    }
}

/// The mix of its own begins.
const OWN: Hears = Hears::Own {
    same: 0,
    met: false,
};

/// One that the decoder enters without a past, and one for the other mode to forget its own.
pub(super) const CROSSING_FRAMES: u8 = 2;
/// 200 ms: an encoder looks back that far.
const SAME_FRAMES: u8 = 10;
/// Frames encoded plainly before one predicts nothing …
const PLAIN_FRAMES_ANEW: u8 = 25;
/// … and before two encoders cross over (again).
const PLAIN_FRAMES_CROSSING: u8 = 10;
