//! Where a recording comes from: the operator's folder, else Debian's human recordings for
//! Asterisk, else what ships inside the program. Nothing found or found broken on the way stops
//! the search.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::catalogue;
use super::embedded;
use super::sound;
use super::texts::{ClipName, Entry, Part};
use super::wav::{Wav, WavError};
use crate::booking::is_organisation_name;
use crate::media::codec::Codec;
use crate::units::{Brand, Language};

/// Whose voice a recording has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The operator's own file.
    Own,
    /// Debian's human recordings for Asterisk.
    Recorded,
    /// The synthetic voice inside the program.
    Shipped,
    /// Computed: tones and music.
    Generated,
}

/// Where recordings are looked for.
#[derive(Debug, Clone)]
pub struct PromptFolders {
    /// The operator's: `it/NAME.wav`, `en/NAME.wav`, `music.wav`; `.g722` as well. An organisation's lie the same way in
    /// `organisations/ITS NAME`.
    pub own: Option<PathBuf>,
    /// What Debian's `asterisk-core-sounds-*` packages install.
    pub recordings: Option<PathBuf>,
}

impl Default for PromptFolders {
    fn default() -> Self {
        Self {
            own: None,
            recordings: Some(PathBuf::from("/usr/share/asterisk/sounds")),
        }
    }
}

impl PromptFolders {
    /// The operator's recording of `name`; `language` is `None` for what is no speech.
    pub(super) fn own(
        &self,
        language: Option<Language>,
        name: ClipName,
        problems: &mut Vec<PromptProblem>,
    ) -> Option<Stored> {
        OwnFolder(self.own.clone()?).find(language, name, problems)
    }

    /// Where the recordings of organisations are.
    pub(super) fn of_organisations(
        &self,
        problems: &mut Vec<PromptProblem>,
    ) -> Vec<(Brand, OwnFolder)> {
        let Some(Ok(entries)) = self
            .own
            .as_ref()
            .map(|own| fs::read_dir(own.join(ORGANISATIONS)))
        else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        paths.sort();
        let mut found = Vec::new();
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str());
            match name.filter(|name| is_organisation_name(name) && path.is_dir()) {
                Some(_) if found.len() == ORGANISATIONS_MAX => {
                    problems.push(PromptProblem::TooMany { path });
                }
                Some(name) => found.push((Brand::of(name), OwnFolder(path))),
                None => problems.push(PromptProblem::NoOrganisation { path }),
            }
        }
        found
    }

    /// Debian's recordings that say `entry` together; all of them, or `None`.
    pub(super) fn recorded(
        &self,
        language: Language,
        entry: &Entry,
        problems: &mut Vec<PromptProblem>,
    ) -> Option<Vec<(Stored, Part)>> {
        let folder = self.recordings_of(language)?;
        if entry.recordings.is_empty() {
            return None;
        }
        let found = entry.recordings.iter().map(|part| {
            let stored = find(&folder, part.file, SPEECH_SECONDS_MAX, problems)?;
            fits(&stored, part).then_some((stored, *part))
        });
        found.collect()
    }

    /// What is wrong with the folders themselves.
    pub(super) fn problems(&self, known: &dyn Fn(Language, &str) -> bool) -> Vec<PromptProblem> {
        let mut problems = Vec::new();
        if let Some(own) = &self.own {
            OwnFolder(own.clone()).check(known, &mut problems);
        }
        if let Some(recordings) = &self.recordings {
            let missing = Language::ALL
                .into_iter()
                .filter(|l| self.recordings_of(*l).is_none());
            problems.extend(missing.map(|language| PromptProblem::NotInstalled {
                path: recordings.join(language.code()),
                language,
            }));
        }
        problems
    }

    /// The voice that the texts were written after comes first; another one has the same file
    /// names and nearly the same words.
    fn recordings_of(&self, language: Language) -> Option<PathBuf> {
        let folder = self.recordings.as_ref()?;
        let voice = match language {
            Language::Italian => "it_IT_m_Carlo",
            Language::English => "en_US_f_Allison",
        };
        [voice, language.code()]
            .into_iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_dir())
    }
}

/// The shipped recording.
pub(super) fn shipped(language: Language, name: ClipName) -> Option<Stored> {
    embedded::shipped(language, name).map(|bytes| Stored::G722(Cow::Borrowed(bytes)))
}

/// A recording as it was read.
#[derive(Debug)]
pub(super) enum Stored {
    /// Raw G.722 at 64 kbit/s.
    G722(Cow<'static, [u8]>),
    /// A WAV file's samples.
    Wav(Wav),
}

impl Stored {
    /// At 16 kHz.
    pub(super) fn samples(&self) -> Vec<f32> {
        match self {
            Self::G722(bytes) => sound::at_16_khz(&sound::decoded(Codec::G722, bytes), sound::RATE),
            Self::Wav(wav) => sound::at_16_khz(&wav.samples, wav.rate),
        }
    }

    fn milliseconds(&self) -> u64 {
        match self {
            Self::G722(bytes) => bytes.len() as u64 / 8,
            Self::Wav(wav) => wav.samples.len() as u64 * 1_000 / u64::from(wav.rate.max(1)),
        }
    }
}

/// Is it the recording that the cut was made for?
fn fits(stored: &Stored, part: &Part) -> bool {
    part.cut
        .is_none_or(|cut| stored.milliseconds().abs_diff(u64::from(cut.whole_ms)) <= 20)
}

/// `NAME.g722` (16 kHz) before `NAME.wav`.
fn find(
    folder: &Path,
    name: &str,
    seconds_max: u64,
    problems: &mut Vec<PromptProblem>,
) -> Option<Stored> {
    ENDINGS.into_iter().find_map(|ending| {
        let path = folder.join(format!("{name}.{ending}"));
        match read(&path, ending, seconds_max) {
            Ok(stored) => stored,
            Err(problem) => {
                problems.push(problem);
                None
            }
        }
    })
}

/// `Ok(None)`: there is no such file.
fn read(path: &Path, ending: &str, seconds_max: u64) -> Result<Option<Stored>, PromptProblem> {
    let broken = |why: String| PromptProblem::Broken {
        path: path.to_owned(),
        why,
    };
    let unreadable = |error: io::Error| PromptProblem::Unreadable {
        path: path.to_owned(),
        error,
    };
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    // A named pipe would be waited for at start, a huge file fill the memory.
    if !about.is_file() {
        return Err(broken("not a regular file".to_owned()));
    }
    if about.len() > FILE_BYTES_MAX {
        return Err(broken(format!("larger than {} MB", FILE_BYTES_MAX >> 20)));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let stored = if ending == "wav" {
        Stored::Wav(Wav::parse(&bytes).map_err(|error: WavError| broken(error.to_string()))?)
    } else if bytes.is_empty() {
        return Err(broken("the file is empty".to_owned()));
    } else {
        Stored::G722(Cow::Owned(bytes))
    };
    if stored.milliseconds() > seconds_max * 1_000 {
        return Err(broken(format!("longer than {seconds_max} seconds")));
    }
    Ok(Some(stored))
}

/// A folder of somebody's own recordings.
pub(super) struct OwnFolder(PathBuf);

impl OwnFolder {
    /// The recording of `name`; `language` is `None` for what is no speech.
    pub(super) fn find(
        &self,
        language: Option<Language>,
        name: ClipName,
        problems: &mut Vec<PromptProblem>,
    ) -> Option<Stored> {
        let mut folder = self.0.clone();
        folder.extend(language.map(Language::code));
        let longest = if name == catalogue::MUSIC {
            MUSIC_SECONDS_MAX
        } else {
            SPEECH_SECONDS_MAX
        };
        find(&folder, name.as_str(), longest, problems)
    }

    /// A missing folder and files that no phrase looks for: a misspelt name is otherwise never noticed.
    pub(super) fn check(
        &self,
        known: &dyn Fn(Language, &str) -> bool,
        problems: &mut Vec<PromptProblem>,
    ) {
        let Self(own) = self;
        if !own.is_dir() {
            problems.push(PromptProblem::FolderMissing { path: own.clone() });
            return;
        }
        let generated: HashSet<&str> = catalogue::GENERATED
            .into_iter()
            .map(ClipName::as_str)
            .collect();
        unknown_files(own, &|name| generated.contains(name), problems);
        for language in Language::ALL {
            unknown_files(
                &own.join(language.code()),
                &|name| known(language, name),
                problems,
            );
        }
    }
}

fn unknown_files(folder: &Path, known: &dyn Fn(&str) -> bool, problems: &mut Vec<PromptProblem>) {
    // A language without a folder of its own has no recordings of its own.
    let Ok(files) = fs::read_dir(folder) else {
        return;
    };
    let mut strangers: Vec<PathBuf> = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| path.is_file())
        .filter(|path| {
            let ending = path
                .extension()
                .and_then(|e| e.to_str())
                .unwrap_or_default();
            let name = path
                .file_stem()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            !(ENDINGS.contains(&ending) && known(name))
        })
        .filter(|path| !path.extension().is_some_and(|e| e == "txt" || e == "md"))
        .collect();
    strangers.sort();
    problems.extend(
        strangers
            .into_iter()
            .map(|path| PromptProblem::UnknownName { path }),
    );
}

/// Something about the recordings that an operator should know. The calls go on without it.
#[derive(Debug, thiserror::Error)]
pub enum PromptProblem {
    /// The configured folder does not exist.
    #[error(
        "prompt folder {path} does not exist; create it with the folders it and en in it, or change prompts.folder; \
         meanwhile the installed recordings are used"
    )]
    FolderMissing {
        /// The folder.
        path: PathBuf,
    },
    /// Debian's recordings are not there.
    #[error(
        "no recorded voice for language {language} in {path}: callers hear the synthetic one; \
         apt-get install asterisk-core-sounds-{language} asterisk-core-sounds-{language}-g722"
    )]
    NotInstalled {
        /// Where it would be.
        path: PathBuf,
        /// Whose recordings are missing.
        language: Language,
    },
    /// The file is there, but the system does not give it out.
    #[error(
        "prompt file {path} can't be read ({error}): give voicebridge's user the right to read it; another recording is used"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is no recording that can be used.
    #[error(
        "prompt file {path} can't be used: {why}; convert it with: sox INPUT -r 16000 -c 1 -b 16 -e signed-integer OUTPUT.wav; \
         another recording is used"
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is no organisation's folder.
    #[error(
        "{path} is never used: in prompts.folder/organisations there are folders only, each with the name of an organisation"
    )]
    NoOrganisation {
        /// What is there.
        path: PathBuf,
    },
    /// Many organisations have recordings already.
    #[error(
        "{path} is not used: {ORGANISATIONS_MAX} organisations have recordings, and no more can, as all are held in memory"
    )]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// No phrase looks for it.
    #[error(
        "prompt file {path} is never used: no phrase has that name, or its ending is not wav or g722; docs/prompts.md lists the names"
    )]
    UnknownName {
        /// The file.
        path: PathBuf,
    },
}

/// In the operator's folder.
const ORGANISATIONS: &str = "organisations";
const ORGANISATIONS_MAX: usize = 100;

const ENDINGS: [&str; 2] = ["g722", "wav"];

/// Five minutes of stereo at 48 kHz are 58 MB.
const FILE_BYTES_MAX: u64 = 64 << 20;

const SPEECH_SECONDS_MAX: u64 = 60;
const MUSIC_SECONDS_MAX: u64 = 300;
