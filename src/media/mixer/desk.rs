//! Where a thread mixes one bridge after the other: all that a tick needs only while it runs, so that
//! it stays in the processor's caches and no bridge needs its own.

use crate::media::codec::{Codec, Course, have_met};
use crate::media::command::LegSlot;
use crate::media::leg::{Hears, Leg};
use crate::media::limiter::clamp;
use crate::media::mixer::group::CROSSING_FRAMES;
use crate::media::mixer::noise::Noise;
use crate::media::mixer::select::{Share, TALKERS_MAX};
use crate::media::mixer::sum::{Ending, Sums};
use crate::media::playback::codec_index;
use crate::media::sender::PacketBuffer;
use crate::media::treatment::halves;
use crate::units::{FRAME_SAMPLES_MAX, SampleRate};

/// A thread's place to mix at.
pub struct Desk {
    pub(super) sums: Sums,
    pub(super) talkers: Talkers,
    /// By codec: the frame of those who hear the same.
    pub(super) shared: [PacketBuffer; Codec::ALL.len()],
    /// Where the shared encoder was before that frame, where it can be followed.
    pub(super) course: Option<Course>,
    pub(super) work: Work,
}

/// What was added to the sums in this tick, kept to be subtracted again.
pub(super) struct Talkers {
    added: Box<[Added; ADDED_MAX]>,
    pub(super) count: usize,
}

struct Added {
    slot: LegSlot,
    rate: SampleRate,
    pcm: [i16; FRAME_SAMPLES_MAX],
}

/// How each voice that was added ended, which a bridge keeps until its next tick.
pub(super) struct Tails([Option<Tail>; ADDED_MAX]);

#[derive(Clone, Copy)]
struct Tail {
    slot: LegSlot,
    rate: SampleRate,
    ending: Ending,
}

/// Where one listener's mix is made.
pub(super) struct Work {
    wide: [i32; FRAME_SAMPLES_MAX],
    pub(super) narrow: [i16; FRAME_SAMPLES_MAX],
    pub(super) frame: PacketBuffer,
}

impl Desk {
    /// Allocates all it will ever need.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sums: Sums::new(),
            talkers: Talkers::new(),
            shared: Default::default(),
            course: None,
            work: Work {
                wide: [0; FRAME_SAMPLES_MAX],
                narrow: [0; FRAME_SAMPLES_MAX],
                frame: PacketBuffer::default(),
            },
        }
    }

    /// One listener's own mix, encoded: all but itself, and what is whispered to it.
    pub(super) fn mix_for(
        &mut self,
        slot: LegSlot,
        leg: &mut Leg,
        noise: &Noise,
    ) -> &mut PacketBuffer {
        let Work {
            wide,
            narrow,
            frame,
        } = &mut self.work;
        let rate = leg.parameters().codec.sample_rate();
        let wide = &mut wide[..rate.frame_samples()];
        let narrow = &mut narrow[..rate.frame_samples()];
        let own = self.talkers.own(slot);
        let alone = own.is_some() && self.sums.is_only(rate);
        let whisper = leg.whisper();
        let dead = whisper.is_none() && (alone || self.sums.is_silent(rate));
        self.sums.for_listener(rate, own, whisper, wide);
        let comfort = leg.codecs_mut().comfort.fade(dead);
        noise.replace(rate, comfort, wide);
        leg.note_sent(halves(wide, |sample| sample as f32));
        let codecs = leg.codecs_mut();
        codecs.comfort = comfort.to;
        codecs.limiter.process(wide, narrow);
        let crosses = codecs.crossing == CROSSING_FRAMES;
        codecs.encode(narrow, frame);
        if crosses {
            let shared = &self.shared[codec_index(leg.parameters().codec)];
            leg.set_hears(Hears::Own {
                same: 0,
                met: have_met(frame.payload(), shared.payload()),
            });
        }
        frame
    }

    /// What all hear, encoded for one listener on his way to the shared packets; he is there once those
    /// would do for some frames in a row.
    pub(super) fn follow_for(&mut self, leg: &mut Leg, frames: u8, taken: u8) -> &mut PacketBuffer {
        let shared = &mut self.shared[codec_index(leg.parameters().codec)];
        let frame = &mut self.work.frame;
        let Some(course) = &self.course else {
            return shared;
        };
        let haste = frames.saturating_sub(PATIENT_FRAMES);
        let codecs = leg.codecs_mut();
        let as_shared = codecs.follow(course, shared.payload(), haste, frame);
        leg.set_hears(match as_shared {
            true if taken >= TAKEN_FRAMES => Hears::Shared,
            as_shared => Hears::Following {
                frames: frames.saturating_add(1),
                taken: if as_shared { taken + 1 } else { 0 },
            },
        });
        frame
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

impl Talkers {
    fn new() -> Self {
        let added = || Added {
            slot: LegSlot(u32::MAX),
            rate: SampleRate::Hz8000,
            pcm: [0; FRAME_SAMPLES_MAX],
        };
        Self {
            added: Box::new(std::array::from_fn(|_| added())),
            count: 0,
        }
    }

    /// A tick begins: nobody was added.
    pub(super) const fn begin(&mut self) {
        self.count = 0;
    }

    /// Keeps a voice's part of this tick's sum, as it is added. Where there is none, as it was muted
    /// in mid-word, it comes to rest.
    pub(super) fn add(
        &mut self,
        slot: LegSlot,
        leg: &mut Leg,
        share: Share,
        before: &Tails,
    ) -> &[i16] {
        let Some(place) = self.added.get_mut(self.count) else {
            return &[];
        };
        self.count += 1;
        place.slot = slot;
        place.rate = leg.parameters().codec.sample_rate();
        let pcm = &mut place.pcm[..place.rate.frame_samples()];
        match leg.speech() {
            Some(speech) => {
                pcm.copy_from_slice(speech);
                leg.treat(pcm);
                fade(pcm, share, fade_samples(place.rate));
            }
            None => {
                let ending = before.of(slot).map(|tail| tail.ending).unwrap_or_default();
                for (place, sample) in pcm.iter_mut().zip(ending.samples(place.rate)) {
                    *place = clamp(sample);
                }
            }
        }
        pcm
    }

    pub(super) fn own(&self, slot: LegSlot) -> Option<&[i16]> {
        self.current()
            .find(|added| added.slot == slot)
            .map(Added::samples)
    }

    pub(super) fn tails(&self) -> Tails {
        let mut tails = Tails::default();
        for (tail, added) in tails.0.iter_mut().zip(self.current()) {
            *tail = Some(Tail {
                slot: added.slot,
                rate: added.rate,
                ending: Ending::of(added.samples()),
            });
        }
        tails
    }

    fn current(&self) -> impl Iterator<Item = &Added> {
        self.added.iter().take(self.count)
    }
}

impl Tails {
    /// A voice leaves between two ticks: it comes to rest.
    pub(super) fn cut(&self, slot: LegSlot, cut: &mut [Ending; SampleRate::ALL.len()]) {
        if let Some(tail) = self.of(slot) {
            cut[tail.rate.index()].add(tail.ending);
        }
    }

    fn of(&self, slot: LegSlot) -> Option<&Tail> {
        self.0.iter().flatten().find(|tail| tail.slot == slot)
    }
}

impl Default for Tails {
    fn default() -> Self {
        Self([None; ADDED_MAX])
    }
}

impl Added {
    fn samples(&self) -> &[i16] {
        &self.pcm[..self.rate.frame_samples()]
    }
}

/// Fades over the first samples of the frame; a steady voice is left as it is.
fn fade(pcm: &mut [i16], share: Share, length: usize) {
    match share {
        Share::Whole => {}
        Share::FadeIn => fade_over(pcm, length, |position| position),
        Share::FadeOut => {
            fade_over(pcm, length, |position| length - position);
            pcm.iter_mut().skip(length).for_each(|sample| *sample = 0);
        }
        Share::Nothing => pcm.fill(0),
    }
}

fn fade_over(pcm: &mut [i16], length: usize, weight: impl Fn(usize) -> usize) {
    for (position, sample) in pcm.iter_mut().take(length).enumerate() {
        *sample = (i32::from(*sample) * weight(position) as i32 / length as i32) as i16;
    }
}

/// 5 ms.
const fn fade_samples(rate: SampleRate) -> usize {
    rate.frame_samples() / 4
}

/// 300 ms: what differs between two G.722 states that are given the same codes fades by half in 22 ms.
const TAKEN_FRAMES: u8 = 15;
/// Half a second without haste.
const PATIENT_FRAMES: u8 = 25;
/// Whoever has the floor, and whoever fades out.
const ADDED_MAX: usize = 2 * TALKERS_MAX;
