//! Phrases to sound. `catalogue` says which recordings a phrase is made of, `numbers` how numbers,
//! times and dates are put together, `source` where each recording is found, `sound` what is done
//! to it, `tones` makes what is no speech, `embedded` holds what ships.
//!
//! At start the files are read and looked at, no more. Each recording is decoded when it is first
//! needed and encoded when it is first needed in a codec; [`Prompts::warm_up`] does both ahead of
//! the callers, in the background.

mod catalogue;
mod embedded;
mod numbers;
mod sound;
mod source;
mod texts;
mod tones;
mod wav;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use self::catalogue::{BEEP, GENERATED, JOIN_TONE, LEAVE_TONE, MUSIC};
use self::source::{OwnFolder, Stored};
use self::texts::{Entry, Part, entries};
use crate::call::{Phrase, Speaker};
use crate::media::clip::Rendition;
use crate::media::codec::Codec;
use crate::units::{Brand, Language, Voice};

pub use self::catalogue::clips;
pub use self::numbers::{say_date, say_number, say_time};
pub use self::source::{PromptFolders, PromptProblem, Source};
pub use self::texts::ClipName;

/// All recordings, for the life of the process.
#[derive(Debug)]
pub struct Prompts {
    spoken: HashMap<(Language, ClipName), Voices>,
    /// What organisations have instead.
    branded: HashMap<Brand, Branded>,
    generated: HashMap<ClipName, Clip>,
    gap: Clip,
    nothing: [Arc<Rendition>; Codec::ALL.len()],
}

impl Prompts {
    /// Reads all recordings. What is wrong with one of them is told, and the next source is used:
    /// every phrase always has a recording.
    #[must_use]
    pub fn load(folders: &PromptFolders) -> (Self, Vec<PromptProblem>) {
        let mut spoken = HashMap::new();
        let mut problems = Vec::new();
        for language in Language::ALL {
            for entry in entries(language) {
                let voices = Voices::find(folders, language, &entry, &mut problems);
                spoken.extend(voices.map(|voices| ((language, entry.name), voices)));
            }
        }
        let generated = GENERATED.map(|name| (name, generated(folders, name, &mut problems)));
        let known = |language, name: &str| {
            spoken
                .keys()
                .any(|(of, clip)| *of == language && clip.as_str() == name)
        };
        problems.extend(folders.problems(&known));
        let prompts = Self {
            branded: branded(folders, &known, &mut problems),
            spoken,
            generated: generated.into_iter().collect(),
            gap: Clip::new(Source::Generated, Sound::Made(|| vec![0; GAP_SAMPLES])),
            nothing: Codec::ALL.map(|codec| Arc::new(silent(codec))),
        };
        (prompts, problems)
    }

    /// Makes everything ready in every codec, the everyday phrases first. Takes seconds: call it on
    /// a thread of its own. Meanwhile `say` works, only slower.
    pub fn warm_up(&self) {
        self.warm_up_with(&Codec::ALL);
    }

    fn warm_up_with(&self, codecs: &[Codec]) {
        for &codec in codecs {
            self.gap.rendition(codec);
            for language in Language::ALL {
                self.say(&Voice::everybodys(language), &catalogue::everyday(), codec);
            }
        }
        let spoken = self.spoken.values().map(|voices| &voices.best);
        let branded = self.branded.values().flat_map(Branded::clips);
        for clip in self.generated.values().chain(spoken).chain(branded) {
            for &codec in codecs {
                clip.rendition(codec);
            }
        }
    }

    /// The short tone that draws attention.
    #[must_use]
    pub fn beep(&self, codec: Codec) -> Arc<Rendition> {
        self.generated(BEEP, codec)
    }

    /// Whose voices say `phrase`, recording by recording.
    #[must_use]
    pub fn sources(&self, voice: &Voice, phrase: &Phrase) -> Vec<(ClipName, Source)> {
        let mut sources = Vec::new();
        self.each_clip(voice, phrase, |name, clip| {
            sources.push((name, clip.source))
        });
        sources
    }

    /// How many of a language's recordings come from `source`.
    #[must_use]
    pub fn count(&self, language: Language, source: Source) -> usize {
        let voices = self.spoken.iter().filter(|((of, _), _)| *of == language);
        voices
            .filter(|(_, voices)| voices.best.source == source)
            .count()
    }

    /// Hands out a phrase's recordings in one voice: where one of Debian's is missing in a sentence,
    /// the synthetic voice says all of it. An organisation's and the operator's own are always used.
    fn each_clip<'a>(
        &'a self,
        voice: &Voice,
        phrase: &Phrase,
        mut take: impl FnMut(ClipName, &'a Clip),
    ) {
        let language = voice.language;
        let names = clips(language, phrase);
        let branded = self.branded_for(voice);
        let voices = |name: &ClipName| self.spoken.get(&(language, *name));
        let synthetic = names
            .iter()
            .filter_map(voices)
            .any(|v| v.best.source == Source::Shipped);
        for name in &names {
            let own = branded.and_then(|own| own.find(language, *name));
            if let Some(clip) = own {
                take(*name, clip);
                continue;
            }
            let spoken = voices(name).map(|v| {
                if synthetic {
                    v.matching_synthetic()
                } else {
                    &v.best
                }
            });
            if let Some(clip) = spoken.or_else(|| self.generated.get(name)) {
                take(*name, clip);
            }
        }
    }

    fn branded_for(&self, voice: &Voice) -> Option<&Branded> {
        self.branded.get(voice.brand.as_ref()?)
    }

    fn generated(&self, name: ClipName, codec: Codec) -> Arc<Rendition> {
        let rendition = self
            .generated
            .get(&name)
            .and_then(|clip| clip.rendition(codec));
        rendition.unwrap_or_else(|| Arc::clone(of_codec(&self.nothing, codec)))
    }
}

impl Speaker for Prompts {
    fn say(&self, voice: &Voice, phrases: &[Phrase], codec: Codec) -> Vec<Arc<Rendition>> {
        let mut said = Vec::new();
        for phrase in phrases {
            if !said.is_empty() {
                said.extend(self.gap.rendition(codec));
            }
            self.each_clip(voice, phrase, |_, clip| said.extend(clip.rendition(codec)));
        }
        said
    }

    fn music(&self, voice: &Voice, codec: Codec) -> Arc<Rendition> {
        // To encode minutes of it takes seconds: until that was done beforehand, everybody's is heard.
        let own = self.branded_for(voice);
        let own = own.and_then(|own| own.generated.get(&MUSIC)?.ready(codec));
        own.unwrap_or_else(|| self.generated(MUSIC, codec))
    }
}

/// An organisation's own recordings; what it has none of is everybody's.
#[derive(Debug, Default)]
struct Branded {
    spoken: HashMap<(Language, ClipName), Clip>,
    generated: HashMap<ClipName, Clip>,
}

impl Branded {
    fn load(folder: &OwnFolder, problems: &mut Vec<PromptProblem>) -> Self {
        let mut branded = Self::default();
        for language in Language::ALL {
            for entry in entries(language) {
                let stored = folder.find(Some(language), entry.name, problems);
                let clip = stored.map(|stored| Clip::new(Source::Own, Sound::speech(stored)));
                branded
                    .spoken
                    .extend(clip.map(|clip| ((language, entry.name), clip)));
            }
        }
        for name in GENERATED {
            let stored = folder.find(None, name, problems);
            let clip = stored.map(|stored| Clip::new(Source::Own, Sound::plain(name, stored)));
            branded.generated.extend(clip.map(|clip| (name, clip)));
        }
        branded
    }

    fn find(&self, language: Language, name: ClipName) -> Option<&Clip> {
        let spoken = self.spoken.get(&(language, name));
        spoken.or_else(|| self.generated.get(&name))
    }

    fn clips(&self) -> impl Iterator<Item = &Clip> {
        self.spoken.values().chain(self.generated.values())
    }
}

/// Of all organisations that have some.
fn branded(
    folders: &PromptFolders,
    known: &dyn Fn(Language, &str) -> bool,
    problems: &mut Vec<PromptProblem>,
) -> HashMap<Brand, Branded> {
    let folders = folders.of_organisations(problems);
    let load = |(brand, folder): (Brand, OwnFolder)| {
        let branded = Branded::load(&folder, problems);
        folder.check(known, problems);
        (brand, branded)
    };
    folders.into_iter().map(load).collect()
}

/// One recording in the voices that can say it.
#[derive(Debug)]
struct Voices {
    best: Clip,
    /// Where the best is Debian's: the synthetic one, for sentences that it has to say as a whole.
    synthetic: Option<Clip>,
}

impl Voices {
    /// `None`: there is none at all, which the texts' tests rule out.
    fn find(
        folders: &PromptFolders,
        language: Language,
        entry: &Entry,
        problems: &mut Vec<PromptProblem>,
    ) -> Option<Self> {
        let shipped = source::shipped(language, entry.name)
            .map(|stored| Clip::new(Source::Shipped, Sound::speech(stored)));
        if let Some(stored) = folders.own(Some(language), entry.name, problems) {
            return Some(Self {
                best: Clip::new(Source::Own, Sound::speech(stored)),
                synthetic: None,
            });
        }
        if let Some(parts) = folders.recorded(language, entry, problems) {
            return Some(Self {
                best: Clip::new(Source::Recorded, Sound::Speech(parts)),
                synthetic: shipped,
            });
        }
        Some(Self {
            best: shipped?,
            synthetic: None,
        })
    }

    const fn matching_synthetic(&self) -> &Clip {
        match &self.synthetic {
            Some(clip) => clip,
            None => &self.best,
        }
    }
}

/// A recording and what was made of it so far.
#[derive(Debug)]
struct Clip {
    source: Source,
    sound: Sound,
    pcm: OnceLock<Vec<i16>>,
    renditions: [OnceLock<Option<Arc<Rendition>>>; Codec::ALL.len()],
}

impl Clip {
    fn new(source: Source, sound: Sound) -> Self {
        Self {
            source,
            sound,
            pcm: OnceLock::new(),
            renditions: Default::default(),
        }
    }

    /// Encodes on first use. `None`: nothing is heard in it, or the codec refused.
    fn rendition(&self, codec: Codec) -> Option<Arc<Rendition>> {
        let made = of_codec(&self.renditions, codec).get_or_init(|| self.encode(codec));
        made.clone()
    }

    /// What was made of it already.
    fn ready(&self, codec: Codec) -> Option<Arc<Rendition>> {
        of_codec(&self.renditions, codec).get()?.clone()
    }

    fn encode(&self, codec: Codec) -> Option<Arc<Rendition>> {
        let pcm = self.pcm.get_or_init(|| self.sound.samples());
        if pcm.is_empty() {
            return None;
        }
        match Rendition::encode(codec, pcm) {
            Ok(rendition) => Some(Arc::new(rendition)),
            Err(error) => {
                tracing::error!(codec = codec.encoding_name(), %error, "a prompt can't be encoded");
                None
            }
        }
    }
}

/// Where the samples come from.
#[derive(Debug)]
enum Sound {
    /// Trimmed and brought to speech level.
    Speech(Vec<(Stored, Part)>),
    /// Kept in its length, brought to this level in dBFS.
    Plain(Stored, f32),
    /// Computed.
    Made(fn() -> Vec<i16>),
}

impl Sound {
    fn speech(stored: Stored) -> Self {
        Self::Speech(vec![(
            stored,
            Part {
                file: "",
                cut: None,
            },
        )])
    }

    /// What is no speech.
    fn plain(name: ClipName, stored: Stored) -> Self {
        let dbfs = if name == MUSIC {
            tones::MUSIC_DBFS
        } else {
            tones::TONE_DBFS
        };
        Self::Plain(stored, dbfs)
    }

    /// At 16 kHz, ready to be encoded.
    fn samples(&self) -> Vec<i16> {
        match self {
            Self::Speech(parts) => sound::speech(parts.iter().map(part_samples).collect()),
            Self::Plain(stored, dbfs) => sound::plain(stored.samples(), *dbfs),
            Self::Made(make) => make(),
        }
    }
}

fn part_samples((stored, part): &(Stored, Part)) -> Vec<f32> {
    let samples = stored.samples();
    match part.cut {
        Some(cut) => sound::beginning(samples, cut.keep_ms),
        None => samples,
    }
}

/// What is no speech: the operator's file, else computed.
fn generated(folders: &PromptFolders, name: ClipName, problems: &mut Vec<PromptProblem>) -> Clip {
    if let Some(stored) = folders.own(None, name, problems) {
        return Clip::new(Source::Own, Sound::plain(name, stored));
    }
    let make: fn() -> Vec<i16> = match name {
        JOIN_TONE => tones::join_tone,
        LEAVE_TONE => tones::leave_tone,
        MUSIC => tones::music,
        _ => tones::beep,
    };
    Clip::new(Source::Generated, Sound::Made(make))
}

/// The element of `codec` in a table kept per codec.
const fn of_codec<T>(table: &[T; Codec::ALL.len()], codec: Codec) -> &T {
    let [pcmu, pcma, g722, opus] = table;
    match codec {
        Codec::Pcmu => pcmu,
        Codec::Pcma => pcma,
        Codec::G722 => g722,
        Codec::Opus => opus,
    }
}

/// No frames at all: stands in where even the music can't be encoded.
fn silent(codec: Codec) -> Rendition {
    Rendition {
        codec,
        payload: Box::default(),
        frame_ends: Box::default(),
        pcm: Box::default(),
    }
}

/// Between two phrases, in samples: 100 ms, beside the breath that every recording ends with.
const GAP_SAMPLES: usize = 100 * sound::SAMPLES_PER_MS;

#[cfg(test)]
mod tests;
