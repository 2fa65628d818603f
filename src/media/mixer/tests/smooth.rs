//! Nothing is heard of what the mixer does: no click, no dead air, nothing flattened.

#![expect(clippy::print_stdout, reason = "the figures are worth reading")]

use super::*;
use crate::media::limiter::{CEILING, Limiter};
use crate::media::mixer::noise::Fade;
use crate::media::mixer::tests::speech::{at, voice};
use crate::media::seeded::Random;

/// SNR of what was heard against a reference, per 20 ms frame; `None` where there is next to nothing to be heard.
fn frame_snrs<'a>(
    heard: &'a [i16],
    reference: &'a [i16],
    samples: usize,
) -> impl Iterator<Item = Option<f64>> + 'a {
    let power = |s: f64| s * s;
    let frames = heard.chunks(samples).zip(reference.chunks(samples));
    frames.map(move |(heard, reference)| {
        let signal: f64 = reference.iter().map(|s| power(f64::from(*s))).sum();
        let pairs = heard.iter().zip(reference);
        let error: f64 = pairs
            .map(|(h, r)| power(f64::from(*h) - f64::from(*r)))
            .sum();
        let audible = signal / samples as f64 > power(100.0);
        audible.then(|| 10.0 * (signal / error.max(1e-3)).log10())
    })
}

/// What a decoder made of the packets against one that was fed by an encoder that nothing ever
/// switched, per 20 ms frame: the worst SNR over frames that can be heard.
fn worst_snr(heard: &[i16], reference: &[i16], samples: usize) -> f64 {
    let snrs = frame_snrs(heard, reference, samples).flatten();
    snrs.fold(f64::INFINITY, f64::min)
}

/// A voice-like sound: harmonics under a slow envelope, with pauses.
fn babble(pitch: f64, t: f64) -> f64 {
    let pitch = pitch + 20.0 * (t * 5.0).sin();
    let voice: f64 = (1..12)
        .map(|n| (pitch * f64::from(n) * t * std::f64::consts::TAU).sin() / f64::from(n))
        .sum();
    let envelope = (t * 3.0 * std::f64::consts::TAU).sin().max(0.0);
    5_000.0 * envelope * voice
}

/// When who speaks: 0 a part of each round, or always; 1, who listens otherwise, a word in each.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    pauses: bool,
    /// Seconds.
    round: f64,
    talk: f64,
    word: (f64, f64),
    /// Of the word.
    hz: f64,
    /// Of the talker, and where in its sound it begins, in seconds.
    pitch: f64,
    begin: f64,
}

impl Schedule {
    /// Words into the talker's speech, at its beginning and its end; short gaps, longer ones, and none.
    fn drawn(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut between = |low: f64, high: f64| low + (high - low) * f64::from(random.unit());
        let pauses = !seed.is_multiple_of(3);
        let talk = between(0.3, 0.9);
        let gap = if pauses {
            between(0.35, 0.9)
        } else {
            between(1.0, 2.5)
        };
        let from = between(0.0, talk);
        Self {
            pauses,
            round: talk + gap,
            talk,
            word: (from, from + between(0.06, 0.25)),
            hz: between(300.0, 2_500.0),
            pitch: between(90.0, 250.0),
            begin: between(0.0, 60.0),
        }
    }

    fn sound(self, peer: usize, t: f64) -> f64 {
        let (place, at) = (t % self.round, t + self.begin);
        match peer {
            0 if !self.pauses => babble(self.pitch, at) + babble(self.pitch, at + 0.17),
            0 if place < self.talk => babble(self.pitch, at),
            1 if (self.word.0..self.word.1).contains(&place) => sine(3_000.0, self.hz, t),
            _ => 0.0,
        }
    }
}

/// What became of a leg that turned between the shared and its own mix.
struct Turned {
    turns: usize,
    frames: usize,
    /// Of those, frames with a packet for it alone.
    alone: usize,
    /// The worst SNR against decoders that have always been fed by the encoder that made the packet, dB.
    worst: f64,
    /// Worst and mean SNR against its mix: of what it heard, and of a coder that never turned. For G.722,
    /// which follows the wave.
    coding: [[f64; 2]; 2],
}

/// Lets leg 1 turn between shared and own mix; 2 listens only and never turns.
fn turned(
    codec: Codec,
    turns_max: usize,
    frames_max: usize,
    speech: impl Fn(usize, f64) -> f64,
) -> Turned {
    let mut world = World::new(&[Codec::Pcmu, codec, codec]);
    let speech = |peer: usize, _: usize, t: f64| speech(peer, t);
    let samples = codec.sample_rate().frame_samples();
    let (mut turns, mut alone, mut frames) = (0, 0, 0);
    let mut alone_before = false;
    // One decoder has only ever seen shared packets; the other goes on, at each parting, from where 1's
    // encoder does, with those of 1.
    let [mut follower, mut never_turned, mut listener] =
        [(); 3].map(|()| Decoder::new(codec).unwrap());
    let mut steady = (Encoder::new(codec).unwrap(), Decoder::new(codec).unwrap());
    let [mut reference, mut mixes, mut steadily] = [(); 3].map(|()| Vec::new());
    while turns < turns_max && frames < frames_max {
        let (was, comfort) = (world.leg(1).hears(), world.leg(1).codecs_mut().comfort);
        listener.copy_state_from(&world.peers[1].decoder);
        world.run(1, speech);
        let hears = world.leg(1).hears();
        turns += usize::from(was.is_common() != hears.is_common());
        if was.is_common() && !hears.is_common() {
            let from = if was == Hears::Shared {
                &follower
            } else {
                &listener
            };
            never_turned.copy_state_from(from);
        }
        let packet = |peer: usize| &world.peers[peer].packets[frames][12..];
        let (mut all, mut own) = ([0; 5_760], [0; 5_760]);
        follower.decode(packet(2), &mut all).unwrap();
        let for_it_alone = packet(1) != packet(2);
        alone += usize::from(for_it_alone);
        if !hears.is_common() {
            never_turned.decode(packet(1), &mut own).unwrap();
        } else if for_it_alone || alone_before {
            // By an encoder that knows its decoder; or by the shared one after that, whose end
            // the decoder's filter still holds. How well it does is seen in `coding`.
            listener.decode(packet(1), &mut own).unwrap();
        } else {
            own = all;
        }
        alone_before = for_it_alone && codec == Codec::G722;
        reference.extend_from_slice(&own[..samples]);
        if codec == Codec::G722 {
            let mix = mix_of_1(&mut world, was, comfort);
            let mut payload = [0; 400];
            let length = steady.0.encode(&mix, &mut payload).unwrap();
            steady.1.decode(&payload[..length], &mut own).unwrap();
            steadily.extend_from_slice(&own[..samples]);
            mixes.extend(mix);
        }
        frames += 1;
    }
    world.run(30, speech);
    let heard = &world.peers[1].heard;
    // Through both filters.
    let late = 22;
    let against_mix = |heard: &[i16]| {
        let snrs: Vec<f64> = frame_snrs(heard.get(late..).unwrap_or_default(), &mixes, samples)
            .flatten()
            .collect();
        let worst = snrs.iter().fold(f64::INFINITY, |least, snr| snr.min(least));
        [worst, snrs.iter().sum::<f64>() / snrs.len().max(1) as f64]
    };
    Turned {
        turns,
        frames,
        alone,
        worst: worst_snr(heard, &reference, samples),
        coding: [against_mix(heard), against_mix(&steadily)],
    }
}

/// What 1 is to hear in this frame.
fn mix_of_1(world: &mut World, was: Hears, comfort: Comfort) -> Vec<i16> {
    let rate = world.peers[1].codec.sample_rate();
    let mut mix = world.desk.sums.total(rate).to_vec();
    let (hears, to) = (world.leg(1).hears(), world.leg(1).codecs_mut().comfort);
    if !hears.is_common() {
        let own = world.desk.talkers.own(LegSlot(1));
        world.desk.sums.for_listener(rate, own, None, &mut mix);
        let all = world.bridge.noise.shared(rate);
        let from = if was.is_common() { all.from } else { comfort };
        let fade = Fade { from, to };
        world.bridge.noise.replace(rate, fade, &mut mix);
    }
    mix.iter().map(|sample| *sample as i16).collect()
}

#[test]
fn a_hundred_turns_between_shared_and_own_mix_are_not_heard() {
    // Recorded speech without pauses, and a word into it now and then.
    let speech = voice("it", 30, 80, -20.0);
    for codec in [Codec::G722, Codec::Opus] {
        let it = turned(codec, 100, 5_000, |peer, t| match peer {
            0 => at(&speech, (t * 16_000.0) as usize),
            1 if (0.25..0.35).contains(&(t % 1.5)) => sine(3_000.0, 700.0, t),
            _ => 0.0,
        });
        check_turns(codec, &it);
        assert_eq!(it.turns, 100, "{codec:?}");
    }
}

#[test]
fn turns_are_not_heard_whoever_speaks_when() {
    for codec in [Codec::G722, Codec::Opus] {
        let mut turns = 0;
        for seed in 0..12 {
            let schedule = Schedule::drawn(seed);
            println!("{schedule:?}");
            let it = turned(codec, 20, 1_500, |peer, t| schedule.sound(peer, t));
            check_turns(codec, &it);
            turns += it.turns;
        }
        // By Opus, who says a word every second is best left with an encoder of his own.
        assert!(turns >= 200, "{codec:?}: {turns} of 240");
    }
}

fn check_turns(codec: Codec, it: &Turned) {
    let [turned, steady] = it.coding;
    println!(
        "{codec:?}: {} turns in {} frames, {} of them alone; worst frame {:.1} dB; against the mix \
         {turned:.1?}, who never turned {steady:.1?}",
        it.turns, it.frames, it.alone, it.worst
    );
    assert!(it.worst >= 25.0, "{codec:?}: {:.1} dB", it.worst);
    assert!(turned[0] >= steady[0] - 3.0, "{codec:?}");
    assert!(turned[1] >= steady[1] - 2.5, "{codec:?}");
}

#[test]
fn parting_from_the_shared_mix_is_not_heard() {
    for codec in [Codec::G722, Codec::Opus] {
        // 1 says a word after 0.6 s, and parts from the shared mix for it.
        let mut world = World::new(&[Codec::Pcmu, codec, codec]);
        let speech = |peer: usize, _: usize, t: f64| match peer {
            0 => babble(140.0, t),
            1 if (0.6..0.9).contains(&t) => sine(3_000.0, 700.0, t),
            _ => 0.0,
        };
        // What 1 should hear, from one encoder and decoder from beginning to end.
        let rate = codec.sample_rate();
        let mut encoder = Encoder::new(codec).unwrap();
        encoder.expect_loss(0).unwrap();
        let mut decoder = Decoder::new(codec).unwrap();
        let mut reference = Vec::new();
        let mut parted = 0;
        for _ in 0..80 {
            let own_before = world.leg(1).codecs_mut().comfort;
            let was_shared = world.leg(1).hears() == Hears::Shared;
            world.run(1, speech);
            let shared = world.leg(1).hears() == Hears::Shared;
            parted += usize::from(!shared);
            let mut mix = vec![0; rate.frame_samples()];
            let own = world.desk.talkers.own(LegSlot(1));
            world.desk.sums.for_listener(rate, own, None, &mut mix);
            let all = world.bridge.noise.shared(rate);
            let from = if was_shared { all.from } else { own_before };
            let to = world.leg(1).codecs_mut().comfort;
            if !shared {
                world
                    .bridge
                    .noise
                    .replace(rate, Fade { from, to }, &mut mix);
            }
            let narrow: Vec<i16> = mix.iter().map(|sample| *sample as i16).collect();
            let mut payload = [0; 400];
            let length = encoder.encode(&narrow, &mut payload).unwrap();
            let mut pcm = [0; 5_760];
            let length = decoder.decode(&payload[..length], &mut pcm).unwrap();
            reference.extend_from_slice(&pcm[..length]);
        }
        assert!(
            (20..60).contains(&parted),
            "{codec:?}: parted for {parted} frames"
        );
        let worst = worst_snr(&world.peers[1].heard, &reference, rate.frame_samples());
        assert!(worst >= 25.0, "{codec:?}: {worst:.1} dB");
    }
}

/// The largest step over 125 us, and the largest third difference of such steps: a click is in both,
/// a voice's own sound in the first at most.
fn steps(pcm: &[i16], rate: SampleRate) -> [f64; 2] {
    let lag = rate.frame_samples() / 160;
    let difference = |pcm: &[f64]| -> Vec<f64> {
        let pairs = pcm.iter().zip(&pcm[lag..]);
        pairs.map(|(a, b)| b - a).collect()
    };
    let largest = |pcm: &[f64]| pcm.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    let pcm: Vec<f64> = pcm.iter().map(|x| f64::from(*x)).collect();
    let first = difference(&pcm);
    [largest(&first), largest(&difference(&difference(&first)))]
}

/// What happens to 0 while it talks.
#[derive(Debug, Clone, Copy)]
enum Event {
    LeaveAndJoin,
    MuteAndUnmute,
    Gain,
}

impl Event {
    fn happen(self, world: &mut World, off: bool) {
        match self {
            Self::LeaveAndJoin if off => {
                let leg = world.legs[0].as_mut().unwrap();
                world.bridge.leave(LegSlot(0), leg);
            }
            Self::LeaveAndJoin => assert!(world.bridge.join(LegSlot(0))),
            Self::MuteAndUnmute => world.leg(0).set_muted(off),
            Self::Gain => {
                world.leg(0).set_sound(!off, None);
            }
        }
    }
}

#[test]
fn nothing_that_happens_to_a_talker_clicks_for_the_others() {
    let rates = [Codec::Pcmu, Codec::G722, Codec::Opus];
    for talker in rates {
        for other in rates {
            for listener in rates {
                let codecs = [talker, other, listener];
                for event in [Event::LeaveAndJoin, Event::MuteAndUnmute, Event::Gain] {
                    check_clicks(codecs, event);
                }
            }
        }
    }
    check_clicks([Codec::Pcma; 3], Event::LeaveAndJoin);
}

/// 0 talks, and something happens to it; 1 talks too and hears its own mix, 2 only listens.
fn check_clicks(codecs: [Codec; 3], event: Event) {
    // A gain makes it louder than it is.
    let (loud, settle) = match event {
        Event::Gain => (1_200.0, 150),
        Event::LeaveAndJoin | Event::MuteAndUnmute => (8_000.0, 50),
    };
    // The frames begin at all parts of 0's wave.
    let talk = |peer: usize, _: usize, t: f64| match peer {
        0 => loud * (312.5 * t * std::f64::consts::TAU).cos(),
        1 => sine(1_500.0, 230.0, t),
        _ => 0.0,
    };
    let mut world = World::new(&codecs);
    if matches!(event, Event::Gain) {
        event.happen(&mut world, false);
    }
    // What 2 hears, before it is encoded.
    let rate = codecs[2].sample_rate();
    let mut mix = Vec::new();
    let mut run = |world: &mut World, frames: u64| {
        for _ in 0..frames {
            world.run(1, talk);
            mix.extend(world.desk.sums.total(rate).iter().map(|x| *x as i16));
        }
    };
    run(&mut world, settle);
    let begin = |world: &World, listener: usize| world.peers[listener].heard.len();
    let begins = [begin(&world, 1), begin(&world, 2)];
    for (n, off) in [true, false].into_iter().cycle().take(8).enumerate() {
        event.happen(&mut world, off);
        run(&mut world, 9 + n as u64 % 4);
    }
    for (sound, begin, coder) in [
        (&mix, begins[1], None),
        (&world.peers[1].heard, begins[0], Some(codecs[1])),
        (&world.peers[2].heard, begins[1], Some(codecs[2])),
    ] {
        let rate = coder.map_or(rate, Codec::sample_rate);
        let (before, after) = sound.split_at(begin);
        let steady = steps(&before[before.len() - 10 * rate.frame_samples()..], rate);
        let [step, click] = steps(after, rate);
        let what = format!(
            "{codecs:?} {event:?}, {coder:?}: steady {steady:.0?}, step {step:.0}, click {click:.0}"
        );
        println!("{what}");
        // Of a tone that sets in Opus at 24 kbit/s makes something rougher, however smoothly it does.
        let (steeper, kink) = match coder {
            None => (1.1, 150.0),
            Some(Codec::Pcmu | Codec::Pcma | Codec::G722) => (1.1, 500.0),
            Some(Codec::Opus) => (1.6, 3_000.0),
        };
        assert!(steady[0] > 200.0, "{what}");
        assert!(step <= steeper * steady[0] + 50.0, "{what}");
        assert!(click <= 2.0 * steady[1] + kink, "{what}");
    }
}

#[test]
fn who_stays_behind_alone_hears_no_click() {
    for codec in Codec::ALL {
        let mut world = World::new(&[codec; 2]);
        let talk = |peer: usize, _: usize, t: f64| match peer {
            0 => 8_000.0 * (312.5 * t * std::f64::consts::TAU).cos(),
            _ => 0.0,
        };
        world.run(50, talk);
        let leg = world.legs[0].as_mut().unwrap();
        world.bridge.leave(LegSlot(0), leg);
        world.run(20, talk);
        let rate = codec.sample_rate();
        let heard = &world.peers[1].heard;
        let (before, after) = heard.split_at(heard.len() - 21 * rate.frame_samples());
        let steady = steps(&before[before.len() - 10 * rate.frame_samples()..], rate);
        let [step, click] = steps(after, rate);
        println!("{codec:?}: steady {steady:.0?}, step {step:.0}, click {click:.0}");
        assert!(step <= 1.3 * steady[0] + 100.0, "{codec:?}");
        assert!(click <= 2.0 * steady[1] + 2_000.0, "{codec:?}");
    }
}

fn dbfs(pcm: &[i16]) -> f64 {
    let energy: f64 = pcm.iter().map(|x| f64::from(*x).powi(2)).sum();
    10.0 * (energy / pcm.len() as f64 / 32_768.0_f64.powi(2))
        .max(1e-12)
        .log10()
}

#[test]
fn where_everybody_is_silent_a_quiet_room_is_heard() {
    let mut world = World::new(&Codec::ALL);
    world.run(100, |_, _, _| 0.0);
    for peer in &world.peers {
        let samples = peer.codec.sample_rate().frame_samples();
        let level = dbfs(&peer.heard[50 * samples..]);
        println!("{:?}: {level:.1} dBFS", peer.codec);
        assert!(
            (-70.0..=-60.0).contains(&level),
            "{:?}: {level}",
            peer.codec
        );
        // 2 is white noise.
        let pcm = &peer.heard[50 * samples..];
        let lag = samples / 160;
        let power = |x: f64| x * x;
        let pairs = pcm.iter().zip(&pcm[lag..]);
        let steps: f64 = pairs
            .map(|(a, b)| power(f64::from(*b) - f64::from(*a)))
            .sum();
        let hiss = steps / pcm.iter().map(|x| power(f64::from(*x))).sum::<f64>();
        println!("{:?}: hiss {hiss:.2}", peer.codec);
        assert!(hiss < 1.2, "{:?}: {hiss}", peer.codec);
    }
}

#[test]
fn comfort_noise_comes_and_goes_without_a_jump() {
    // 0 says a word every second; 1 listens, 0 hears nobody.
    let mut world = World::new(&[Codec::G722; 3]);
    world.run(200, |peer, _, t| match peer {
        0 if t % 1.0 < 0.3 => sine(4_000.0, 300.0, t),
        _ => 0.0,
    });
    let rate = SampleRate::Hz16000;
    let talker = &world.peers[0].heard[50 * rate.frame_samples()..];
    // Who talks alone hears the room all the time.
    for part in talker.chunks_exact(5 * rate.frame_samples()) {
        let level = dbfs(part);
        assert!((-70.0..=-58.0).contains(&level), "{level:.1} dBFS");
    }
    let [step, click] = steps(talker, rate);
    assert!(step < 120.0 && click < 300.0, "{step} {click}");
}

#[test]
fn what_is_encoded_of_a_voice_at_full_scale_is_below_the_ceiling() {
    for codec in [Codec::G722, Codec::Opus] {
        for speakers in [1, 2] {
            let mut world = World::new(&[codec, codec, codec]);
            let rate = codec.sample_rate();
            let (mut limiter, mut encoder) = (Limiter::default(), Encoder::new(codec).unwrap());
            encoder.expect_loss(0).unwrap();
            let (mut peak, mut narrow) = (0, vec![0; rate.frame_samples()]);
            for frame in 0..100 {
                world.run(1, |peer, _, t| {
                    let loud = if peer < speakers { 32_767.0 } else { 0.0 };
                    sine(loud, 440.0 + 170.0 * peer as f64, t)
                });
                // Listener 2 is sent the whole sum: what is in its packet is what is measured here.
                limiter.process(world.desk.sums.total(rate), &mut narrow);
                let mut payload = [0; 400];
                let length = encoder.encode(&narrow, &mut payload).unwrap();
                assert_eq!(&world.peers[2].packets[frame][12..], &payload[..length]);
                peak = narrow
                    .iter()
                    .fold(peak, |most, x| x.unsigned_abs().max(most));
            }
            println!("{codec:?}, {speakers}: peak {peak}");
            assert!(i32::from(peak) <= CEILING && peak > 28_000);
        }
    }
}
