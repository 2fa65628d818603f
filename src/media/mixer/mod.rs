//! One bridge: every 20 ms the frames of its legs go in, and to each leg goes what the others
//! say. Without sockets, clocks or allocation: given packets give given packets.
//!
//! What a tick needs only while it runs, the `desk`, belongs to the thread and serves one bridge after
//! the other; a bridge keeps what goes on from tick to tick.
//!
//! 1. `select`: who is summed
//! 2. `sum`: wide, per sample rate, each sum converted once to the other rates
//! 3. `group`: encoded once for all who hear the same; own voice out, limited and encoded for
//!    each who does not

mod desk;
mod fitting;
mod group;
mod noise;
mod select;
mod sum;

pub use desk::Desk;
use fitting::AHEAD;
pub use fitting::{Fitting, Seats};
pub use select::TALKERS_MAX;

use std::time::Instant;

use crate::media::codec::Codec;
use crate::media::command::LegSlot;
use crate::media::leg::{Hears, Leg, Tick};
use crate::media::mixer::desk::Tails;
use crate::media::mixer::group::Group;
pub(in crate::media) use crate::media::mixer::noise::Comfort;
use crate::media::mixer::noise::Noise;
use crate::media::mixer::select::{Floor, Share, choose};
use crate::media::mixer::sum::{Converters, Ending};
use crate::media::playback::{BridgeClip, codec_index};
use crate::media::prefetch::prefetch;
use crate::media::sender::Transmit;
use crate::media::treatment::{Envelope, halves};
use crate::units::SampleRate;

/// A thread's legs, by [`LegSlot`].
pub type LegTable = [Option<Box<Leg>>];

/// Before a bridge's turn: what those will need whose turn comes after it, told by how many are in between. A
/// bridge asks ahead for its own members while it mixes, but for its first ones there is no time then: they are asked
/// for here.
pub fn prefetch_ahead<'a>(after: impl Fn(usize) -> Option<&'a Bridge>, legs: &LegTable) {
    if let Some(next) = after(0) {
        next.seats.first(2, legs).for_each(Leg::prefetch_codecs);
    }
    if let Some(second) = after(1) {
        second
            .seats
            .first(AHEAD, legs)
            .for_each(Leg::prefetch_frame);
    }
    if let Some(third) = after(2) {
        third.seats.prefetch_members();
    }
    if let Some(fourth) = after(3) {
        prefetch(fourth);
    }
}

/// One meeting's mix.
pub struct Bridge {
    seats: Seats,
    converters: Converters,
    groups: [Group; Codec::ALL.len()],
    clip: Option<Box<BridgeClip>>,
    tails: Tails,
    /// Voices that left in mid-word, per rate.
    cut: [Ending; SampleRate::ALL.len()],
    /// How loud what all are sent was of late: what echo is compared with.
    heard: Envelope,
    noise: Noise,
}

impl Bridge {
    /// A bridge with room for so many members. It grows, and gets its encoders, by [`Self::fit`].
    #[must_use]
    pub fn new(seats: usize) -> Self {
        Self {
            seats: Seats::new(seats),
            converters: Converters::new(),
            groups: Codec::ALL.map(Group::new),
            clip: None,
            tails: Tails::default(),
            cut: Default::default(),
            heard: Envelope::new(),
            noise: Noise::new(),
        }
    }

    /// Takes what was made for it where memory may be asked for; returns what that replaces, or
    /// what it has no use for, to be dropped elsewhere.
    pub fn fit(&mut self, fitting: Fitting) -> Option<Fitting> {
        match fitting {
            Fitting::Encoder(codec, encoder) => self.groups[codec_index(codec)]
                .equip(encoder)
                .map(|encoder| Fitting::Encoder(codec, encoder)),
            Fitting::Seats(seats) => Some(Fitting::Seats(self.seats.widen(seats))),
        }
    }

    /// Takes a leg in. `false` where there is no room.
    pub fn join(&mut self, slot: LegSlot) -> bool {
        self.seats.take(slot)
    }

    /// Lets a leg out.
    pub fn leave(&mut self, slot: LegSlot, leg: &mut Leg) {
        self.detach(leg);
        if let Some(Share::FadeIn | Share::Whole) =
            self.seats.leave(slot).map(|floor| floor.share())
        {
            self.tails.cut(slot, &mut self.cut);
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
        self.seats.members.len()
    }

    /// Is nobody in it?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.seats.members.is_empty()
    }

    /// Who is in it, in the order of sending.
    pub fn members(&self) -> impl Iterator<Item = LegSlot> + '_ {
        self.seats.members.iter().map(|member| member.slot)
    }

    /// After the turn of the one before it, which [`prefetch_ahead`] was called for: the last step.
    pub fn prefetch_buffers(&self, legs: &LegTable) {
        self.seats.first(1, legs).for_each(Leg::prefetch_buffers);
    }

    /// Before the `index`th member is asked what has happened: the memory of those after it.
    pub fn prefetch_news(&self, index: usize, legs: &LegTable) {
        self.seats.prefetch_news(index, legs);
    }

    /// Does it encode once for all who hear the same by this codec?
    #[cfg(test)]
    pub(crate) fn is_fitted_for(&self, codec: Codec) -> bool {
        self.groups[codec_index(codec)].is_equipped()
    }

    /// Mixes and sends one frame.
    pub fn mix_tick(
        &mut self,
        tick: &Tick<'_>,
        legs: &mut LegTable,
        desk: &mut Desk,
        sink: &mut impl Transmit,
    ) {
        let in_use = self.receive(tick, legs, sink);
        let cut_short = self.cut.iter().any(|cut| !cut.is_silence());
        if self.seats.members.len() == 1 && self.clip.is_none() && !cut_short {
            self.send_alone(tick, legs, desk, sink);
            return;
        }
        choose(&mut self.seats.floors);
        self.sum(legs, desk);
        desk.sums.spread(&mut self.converters, in_use);
        self.add_to_all(in_use, desk);
        if tick.frame().is_multiple_of(FRAMES_PER_SURVEY) {
            self.survey_losses(tick.now, legs);
        }
        self.regroup(legs);
        for (group, frame) in self.groups.iter_mut().zip(&mut desk.shared) {
            desk.course = group.course().or(desk.course.take());
            group.encode(&desk.sums, &mut desk.work.narrow, frame);
        }
        self.send(tick, legs, desk, sink);
        self.tails = desk.talkers.tails();
        self.note_heard(in_use, desk);
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
        for index in 0..self.seats.members.len() {
            self.seats.prefetch(index, legs);
            let Some((member, floor)) = self.seats.get_mut(index) else {
                break;
            };
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
    fn sum(&mut self, legs: &mut LegTable, desk: &mut Desk) {
        desk.sums.begin();
        desk.talkers.begin();
        for (member, floor) in self.seats.iter() {
            let share = floor.share();
            if share == Share::Nothing {
                continue;
            }
            let Some(leg) = leg_at(legs, member.slot) else {
                continue;
            };
            let rate = leg.parameters().codec.sample_rate();
            let added = desk.talkers.add(member.slot, leg, share, &self.tails);
            desk.sums.add(rate, added);
        }
        for rate in SampleRate::ALL {
            let cut = std::mem::take(&mut self.cut[rate.index()]);
            if !cut.is_silence() {
                desk.sums.add_ending(rate, cut);
            }
        }
    }

    /// The clip, or where nothing at all is heard, comfort noise.
    fn add_to_all(&mut self, in_use: [bool; SampleRate::ALL.len()], desk: &mut Desk) {
        self.noise.next_frame();
        for rate in SampleRate::ALL
            .into_iter()
            .filter(|rate| in_use[rate.index()])
        {
            if let Some(pcm) = self.clip.as_ref().and_then(|clip| clip.pcm(rate)) {
                desk.sums.add_to_total(rate, pcm);
            }
            let silent = desk.sums.is_silent(rate);
            self.noise.add(rate, silent, desk.sums.total_mut(rate));
        }
    }

    /// Who hears the shared mix and who one of his own, before anything is encoded.
    fn regroup(&mut self, legs: &mut LegTable) {
        for (member, floor) in self.seats.iter() {
            let Some(leg) = leg_at(legs, member.slot).filter(|_| member.due) else {
                continue;
            };
            let own = floor.share() != Share::Nothing || leg.is_playing();
            if own && leg.hears().is_common() {
                leg.part_from(&self.heard);
            }
            let group = &mut self.groups[codec_index(leg.parameters().codec)];
            if floor.share() == Share::Nothing && leg.plays_alone() {
                group.detach(leg);
                continue;
            }
            let comfort = self.noise.shared(leg.parameters().codec.sample_rate());
            group.place(leg, own, comfort.from);
        }
    }

    /// Copies for lost packets are made for those who lose some, and for who hears the same.
    fn survey_losses(&mut self, now: Instant, legs: &mut LegTable) {
        let mut most = [0; Codec::ALL.len()];
        for member in &self.seats.members {
            if let Some(leg) = leg_at(legs, member.slot) {
                let most = &mut most[codec_index(leg.parameters().codec)];
                *most = leg.weigh_losses(now).max(*most);
            }
        }
        for (group, percent) in self.groups.iter_mut().zip(most) {
            group.expect_loss(percent);
        }
    }

    fn send(
        &self,
        tick: &Tick<'_>,
        legs: &mut LegTable,
        desk: &mut Desk,
        sink: &mut impl Transmit,
    ) {
        let mut later = Later::default();
        for (index, member) in self.seats.members.iter().enumerate() {
            if let Some(leg) = self.seats.leg(index + AHEAD, legs) {
                leg.prefetch_sending();
            }
            if let Some(next) = self.seats.members.get(index + AHEAD) {
                sink.prefetch(next.slot);
            }
            let Some(leg) = leg_at(legs, member.slot).filter(|_| member.due) else {
                continue;
            };
            if !later.puts_off(member.slot, leg) {
                self.send_one(tick, member.slot, leg, desk, sink);
            }
        }
        for slot in later.slots() {
            sink.hasten();
            if let Some(leg) = leg_at(legs, slot) {
                self.send_one(tick, slot, leg, desk, sink);
            }
        }
    }

    fn send_one(
        &self,
        tick: &Tick<'_>,
        slot: LegSlot,
        leg: &mut Leg,
        desk: &mut Desk,
        sink: &mut impl Transmit,
    ) {
        match leg.hears() {
            Hears::Shared => {
                let codec = codec_index(leg.parameters().codec);
                leg.send(&mut desk.shared[codec], slot, sink);
            }
            Hears::Following { frames, taken } => {
                let frame = desk.follow_for(leg, frames, taken);
                leg.send(frame, slot, sink);
            }
            Hears::Fresh => {
                leg.note_whisper();
                leg.send_solo(tick, slot, &mut desk.work.frame, sink);
            }
            Hears::Own { .. } => {
                let frame = desk.mix_for(slot, leg, &self.noise);
                leg.send(frame, slot, sink);
                leg.advance_player(tick.now);
            }
        }
        leg.send_report(tick.now, slot, sink);
    }

    fn note_heard(&mut self, in_use: [bool; SampleRate::ALL.len()], desk: &Desk) {
        let rate = SampleRate::ALL
            .into_iter()
            .find(|rate| in_use[rate.index()])
            .filter(|rate| !desk.sums.is_silent(*rate));
        let total = rate.map_or(&[][..], |rate| desk.sums.total(rate));
        self.heard.push(halves(total, |sample| sample as f32));
    }

    /// The only one in the bridge hears prompts, music or silence, encoded beforehand.
    fn send_alone(
        &mut self,
        tick: &Tick<'_>,
        legs: &mut LegTable,
        desk: &mut Desk,
        sink: &mut impl Transmit,
    ) {
        self.tails = Tails::default();
        self.noise.rest();
        self.seats.floors.iter_mut().for_each(Floor::close);
        for index in 0..self.seats.members.len() {
            let member = self.seats.members[index];
            let Some(leg) = leg_at(legs, member.slot).filter(|_| member.due) else {
                continue;
            };
            self.detach(leg);
            leg.send_solo(tick, member.slot, &mut desk.work.frame, sink);
            leg.send_report(tick.now, member.slot, sink);
        }
    }
}

/// Whose own mixes take so long to encode that nobody else's packets should wait for them.
#[derive(Default)]
struct Later {
    slots: [Option<LegSlot>; LATER_MAX],
    count: usize,
}

impl Later {
    /// Is it one of them? Where there are too many they are not put off.
    fn puts_off(&mut self, slot: LegSlot, leg: &Leg) -> bool {
        let dear =
            leg.parameters().codec == Codec::Opus && matches!(leg.hears(), Hears::Own { .. });
        let place = self.slots.get_mut(self.count).filter(|_| dear);
        let Some(place) = place else { return false };
        *place = Some(slot);
        self.count += 1;
        true
    }

    fn slots(&self) -> impl Iterator<Item = LegSlot> {
        self.slots.iter().copied().take(self.count).flatten()
    }
}

/// Whoever is summed, and as many who are on their way back.
const LATER_MAX: usize = 2 * TALKERS_MAX;
/// Half a second.
const FRAMES_PER_SURVEY: u64 = 25;

fn leg_at(legs: &mut LegTable, slot: LegSlot) -> Option<&mut Leg> {
    legs.get_mut(slot.0 as usize)?.as_deref_mut()
}

#[cfg(test)]
mod tests;
