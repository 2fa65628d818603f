//! One bridge: every 20 ms the frames of its legs go in, and to each leg goes what the others
//! say. Without sockets, clocks or allocation: given packets give given packets.
//!
//! 1. `select`: who is summed
//! 2. `sum`: wide, per sample rate, each sum converted once to the other rates
//! 3. `group`: encoded once for all who hear the same; own voice out, limited and encoded for
//!    each who does not

mod group;
mod noise;
mod select;
mod sum;

pub use select::TALKERS_MAX;

use crate::media::codec::{Codec, CodecError};
use crate::media::command::LegSlot;
use crate::media::leg::{Leg, Tick};
use crate::media::mixer::group::Group;
pub(in crate::media) use crate::media::mixer::noise::Comfort;
use crate::media::mixer::noise::Noise;
use crate::media::mixer::select::{Floor, Share, choose};
use crate::media::mixer::sum::Sums;
use crate::media::playback::{BridgeClip, codec_index};
use crate::media::sender::{PacketBuffer, Transmit};
use crate::media::treatment::{Envelope, halves};
use crate::units::{FRAME_SAMPLES_MAX, SampleRate};

/// A thread's legs, by [`LegSlot`].
pub type LegTable = [Option<Box<Leg>>];

/// One meeting's mix.
pub struct Bridge {
    /// In the order they came, which is the order they are sent to: even spacing for each.
    members: Vec<Member>,
    floors: Vec<Floor>,
    sums: Sums,
    groups: [Group; Codec::ALL.len()],
    clip: Option<Box<BridgeClip>>,
    talkers: Talkers,
    /// Last samples of voices that left in mid-word, per rate.
    cut: [i32; SampleRate::ALL.len()],
    /// How loud what all are sent was of late: what echo is compared with.
    heard: Envelope,
    noise: Noise,
    work: Work,
}

#[derive(Clone, Copy)]
struct Member {
    slot: LegSlot,
    /// Has a frame in this tick; not so for the first one or two ticks after it came.
    due: bool,
}

/// What was added to the sums in this tick, kept to be subtracted again.
struct Talkers {
    added: Box<[Added; 2 * TALKERS_MAX]>,
    count: usize,
    /// Who was added in the tick before, and the last sample of each.
    before: [(LegSlot, i16); 2 * TALKERS_MAX],
}

struct Added {
    slot: LegSlot,
    rate: SampleRate,
    pcm: [i16; FRAME_SAMPLES_MAX],
}

/// Where one listener's mix is made.
struct Work {
    wide: Box<[i32; FRAME_SAMPLES_MAX]>,
    narrow: Box<[i16; FRAME_SAMPLES_MAX]>,
    frame: Box<PacketBuffer>,
}

impl Bridge {
    /// A bridge with room for `legs_max` members. Allocates all it will ever need.
    ///
    /// # Errors
    /// What the encoders report.
    pub fn new(legs_max: usize) -> Result<Self, CodecError> {
        Ok(Self {
            members: Vec::with_capacity(legs_max),
            floors: Vec::with_capacity(legs_max),
            sums: Sums::new(),
            groups: [
                Group::new(Codec::Pcmu)?,
                Group::new(Codec::Pcma)?,
                Group::new(Codec::G722)?,
                Group::new(Codec::Opus)?,
            ],
            clip: None,
            talkers: Talkers::new(),
            cut: [0; SampleRate::ALL.len()],
            heard: Envelope::new(),
            noise: Noise::new(),
            work: Work {
                wide: Box::new([0; FRAME_SAMPLES_MAX]),
                narrow: Box::new([0; FRAME_SAMPLES_MAX]),
                frame: Box::default(),
            },
        })
    }

    /// Takes a leg in. `false` where there is no room.
    pub fn join(&mut self, slot: LegSlot) -> bool {
        let room = self.members.len() < self.members.capacity();
        if room && !self.members.iter().any(|member| member.slot == slot) {
            self.members.push(Member { slot, due: false });
            self.floors.push(Floor::default());
        }
        room
    }

    /// Lets a leg out.
    pub fn leave(&mut self, slot: LegSlot, leg: &mut Leg) {
        self.detach(leg);
        let Some(index) = self.members.iter().position(|member| member.slot == slot) else {
            return;
        };
        let floor = self.floors.remove(index);
        self.members.remove(index);
        if matches!(floor.share(), Share::FadeIn | Share::Whole) {
            self.talkers.cut(slot, &mut self.cut);
        }
    }

    /// The leg's codec is about to change: it hears nothing shared any more.
    pub fn detach(&mut self, leg: &mut Leg) {
        self.groups[codec_index(leg.parameters().codec)].detach(leg);
    }

    /// Plays to everybody; returns the clip this replaces.
    pub const fn play(&mut self, clip: Box<BridgeClip>) -> Option<Box<BridgeClip>> {
        self.clip.replace(clip)
    }

    /// The clip, once it is played to its end, to be dropped elsewhere.
    pub fn poll_finished(&mut self) -> Option<Box<BridgeClip>> {
        self.clip.take_if(|clip| clip.is_finished())
    }

    /// How many legs there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.members.len()
    }

    /// Is nobody in it?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Who is in it, in the order of sending.
    pub fn members(&self) -> impl Iterator<Item = LegSlot> + '_ {
        self.members.iter().map(|member| member.slot)
    }

    /// Mixes and sends one frame.
    pub fn mix_tick(&mut self, tick: &Tick<'_>, legs: &mut LegTable, sink: &mut impl Transmit) {
        let in_use = self.receive(tick, legs, sink);
        let cut_short = self.cut.iter().any(|cut| *cut != 0);
        if self.members.len() == 1 && self.clip.is_none() && !cut_short {
            self.send_alone(tick, legs, sink);
            return;
        }
        choose(&mut self.floors);
        self.sum(legs);
        self.sums.spread(in_use);
        self.add_to_all(in_use);
        self.regroup(legs);
        for group in &mut self.groups {
            group.encode(&self.sums, &mut self.work.narrow);
        }
        self.send(tick, legs, sink);
        self.note_heard(in_use);
        if let Some(clip) = &mut self.clip {
            clip.advance();
        }
    }

    /// Takes each leg's frame. Returns the sample rates somebody listens at.
    fn receive(
        &mut self,
        tick: &Tick<'_>,
        legs: &mut LegTable,
        sink: &mut impl Transmit,
    ) -> [bool; SampleRate::ALL.len()] {
        let mut in_use = [false; SampleRate::ALL.len()];
        for (member, floor) in self.members.iter_mut().zip(&mut self.floors) {
            let Some(leg) = leg_at(legs, member.slot) else {
                continue;
            };
            member.due = leg.begin_frame(tick, member.slot, sink);
            if member.due && leg.may_speak() {
                let voice = leg.judge(&self.heard, floor.has_it());
                floor.hear(voice.active, voice.level);
            } else {
                floor.close();
            }
            in_use[leg.parameters().codec.sample_rate().index()] = true;
        }
        in_use
    }

    /// Adds up who has the floor.
    fn sum(&mut self, legs: &mut LegTable) {
        self.sums.begin();
        self.talkers.begin();
        for (member, floor) in self.members.iter().zip(&self.floors) {
            let share = floor.share();
            if share == Share::Nothing {
                continue;
            }
            let Some(leg) = leg_at(legs, member.slot) else {
                continue;
            };
            let rate = leg.parameters().codec.sample_rate();
            let added = self.talkers.add(member.slot, leg, share);
            self.sums.add(rate, added);
        }
        for rate in SampleRate::ALL {
            let cut = std::mem::take(&mut self.cut[rate.index()]);
            if cut != 0 {
                self.sums.add_fading(rate, cut, fade_samples(rate));
            }
        }
    }

    /// The clip, or where nothing at all is heard, comfort noise.
    fn add_to_all(&mut self, in_use: [bool; SampleRate::ALL.len()]) {
        self.noise.next_frame();
        for rate in SampleRate::ALL
            .into_iter()
            .filter(|rate| in_use[rate.index()])
        {
            if let Some(pcm) = self.clip.as_ref().and_then(|clip| clip.pcm(rate)) {
                self.sums.add_to_total(rate, pcm);
            }
            let silent = self.sums.is_silent(rate);
            self.noise.add(rate, silent, self.sums.total_mut(rate));
        }
    }

    /// Who hears the shared mix and who one of his own, before anything is encoded.
    fn regroup(&mut self, legs: &mut LegTable) {
        for (member, floor) in self.members.iter().zip(&self.floors) {
            let Some(leg) = leg_at(legs, member.slot).filter(|_| member.due) else {
                continue;
            };
            let own = floor.share() != Share::Nothing || leg.is_playing();
            let group = &mut self.groups[codec_index(leg.parameters().codec)];
            if own && group.is_heard_by(leg) {
                leg.part_from(&self.heard);
            }
            let comfort = self.noise.shared(leg.parameters().codec.sample_rate());
            group.place(leg, own, &self.sums, comfort.from);
        }
    }

    fn send(&mut self, tick: &Tick<'_>, legs: &mut LegTable, sink: &mut impl Transmit) {
        for member in &self.members {
            let Some(leg) = leg_at(legs, member.slot).filter(|_| member.due) else {
                continue;
            };
            let codec = leg.parameters().codec;
            let group = &mut self.groups[codec_index(codec)];
            if group.is_heard_by(leg) {
                leg.send(group.frame_mut(), member.slot, sink);
            } else {
                let own = self.talkers.own(member.slot);
                self.work.mix_for(leg, &self.sums, own, &self.noise);
                leg.send(&mut self.work.frame, member.slot, sink);
                leg.advance_player();
            }
            leg.send_report(tick.now, member.slot, sink);
        }
    }

    fn note_heard(&mut self, in_use: [bool; SampleRate::ALL.len()]) {
        let rate = SampleRate::ALL
            .into_iter()
            .find(|rate| in_use[rate.index()])
            .filter(|rate| !self.sums.is_silent(*rate));
        let total = rate.map_or(&[][..], |rate| self.sums.total(rate));
        self.heard.push(halves(total, |sample| sample as f32));
    }

    /// The only one in the bridge hears prompts, music or silence, encoded beforehand.
    fn send_alone(&mut self, tick: &Tick<'_>, legs: &mut LegTable, sink: &mut impl Transmit) {
        self.talkers.count = 0;
        self.noise.rest();
        self.floors.iter_mut().for_each(Floor::close);
        for index in 0..self.members.len() {
            let member = self.members[index];
            let Some(leg) = leg_at(legs, member.slot).filter(|_| member.due) else {
                continue;
            };
            self.detach(leg);
            leg.send_solo(tick, member.slot, &mut self.work.frame, sink);
            leg.send_report(tick.now, member.slot, sink);
        }
    }
}

impl Talkers {
    fn new() -> Self {
        let added = || Added {
            slot: NOBODY,
            rate: SampleRate::Hz8000,
            pcm: [0; FRAME_SAMPLES_MAX],
        };
        Self {
            added: Box::new(std::array::from_fn(|_| added())),
            count: 0,
            before: [(NOBODY, 0); 2 * TALKERS_MAX],
        }
    }

    fn begin(&mut self) {
        let current = self.added.iter().take(self.count).map(Added::end);
        let ends = current.chain(std::iter::repeat((NOBODY, 0)));
        for (place, end) in self.before.iter_mut().zip(ends) {
            *place = end;
        }
        self.count = 0;
    }

    /// Keeps a voice's part of this tick's sum, as it is added. Where there is none, as it was muted
    /// in mid-word, its last sample is left to fade.
    fn add(&mut self, slot: LegSlot, leg: &mut Leg, share: Share) -> &[i16] {
        let end = self.before.iter().find(|before| before.0 == slot);
        let end = end.map_or(0, |(_, sample)| *sample);
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
            }
            None => {
                pcm.fill(end);
                fade(pcm, Share::FadeOut, fade_samples(place.rate));
            }
        }
        fade(pcm, share, fade_samples(place.rate));
        pcm
    }

    fn own(&self, slot: LegSlot) -> Option<&[i16]> {
        self.current()
            .find(|added| added.slot == slot)
            .map(Added::samples)
    }

    /// A voice leaves between two ticks: its last sample is left to fade.
    fn cut(&self, slot: LegSlot, cut: &mut [i32; SampleRate::ALL.len()]) {
        if let Some(added) = self.current().find(|added| added.slot == slot) {
            cut[added.rate.index()] += i32::from(added.end().1);
        }
    }

    fn current(&self) -> impl Iterator<Item = &Added> {
        self.added.iter().take(self.count)
    }
}

impl Added {
    fn samples(&self) -> &[i16] {
        &self.pcm[..self.rate.frame_samples()]
    }

    fn end(&self) -> (LegSlot, i16) {
        (self.slot, self.samples().last().copied().unwrap_or(0))
    }
}

impl Work {
    /// One listener's own mix: all but itself, and what is whispered to it.
    fn mix_for(&mut self, leg: &mut Leg, sums: &Sums, own: Option<&[i16]>, noise: &Noise) {
        let rate = leg.parameters().codec.sample_rate();
        let wide = &mut self.wide[..rate.frame_samples()];
        let narrow = &mut self.narrow[..rate.frame_samples()];
        let alone = own.is_some() && sums.is_only(rate);
        let whisper = leg.whisper();
        let dead = whisper.is_none() && (alone || sums.is_silent(rate));
        sums.for_listener(rate, own, whisper, wide);
        let comfort = leg.codecs_mut().comfort.fade(dead);
        noise.replace(rate, comfort, wide);
        leg.note_sent(halves(wide, |sample| sample as f32));
        let codecs = leg.codecs_mut();
        codecs.comfort = comfort.to;
        codecs.limiter.process(wide, narrow);
        codecs.encode(narrow, &mut self.frame);
    }
}

fn leg_at(legs: &mut LegTable, slot: LegSlot) -> Option<&mut Leg> {
    legs.get_mut(slot.0 as usize)?.as_deref_mut()
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

const NOBODY: LegSlot = LegSlot(u32::MAX);

/// 5 ms.
const fn fade_samples(rate: SampleRate) -> usize {
    rate.frame_samples() / 4
}

#[cfg(test)]
mod tests;
