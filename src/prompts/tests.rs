//! The library as a whole: every source, every codec, broken files.

use std::fs;
use std::path::Path;

use super::catalogue::{everyday, tests::one_of_each};
use super::sound::tests::dbfs;
use super::*;

const ITALIAN: Voice = Voice::everybodys(Language::Italian);
const ENGLISH: Voice = Voice::everybodys(Language::English);

/// No recordings but those inside the program.
fn bare() -> PromptFolders {
    PromptFolders {
        own: None,
        recordings: None,
    }
}

fn own(folder: &Path) -> PromptFolders {
    PromptFolders {
        own: Some(folder.to_owned()),
        recordings: None,
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A tone of `ms` at 8 kHz as a WAV file of 16 bit.
fn tone_file(hz: f32, ms: u32) -> Vec<u8> {
    let samples = (0..8 * ms)
        .map(|n| (9_000.0 * (std::f32::consts::TAU * hz * n as f32 / 8_000.0).sin()) as i16);
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    wav::tests::file(1, 1, 8_000, 16, &data)
}

fn milliseconds(said: &[Arc<Rendition>]) -> usize {
    said.iter().map(|rendition| rendition.frames() * 20).sum()
}

#[test]
fn a_bare_binary_says_every_phrase_in_every_language() {
    let (prompts, problems) = Prompts::load(&bare());
    assert!(problems.is_empty(), "{problems:?}");
    for language in Language::ALL {
        for phrase in one_of_each() {
            let said = prompts.say(
                &Voice::everybodys(language),
                std::slice::from_ref(&phrase),
                Codec::Pcma,
            );
            assert_eq!(
                said.len(),
                clips(language, &phrase).len(),
                "{language} {phrase:?}"
            );
            assert!(milliseconds(&said) >= 200, "{language} {phrase:?}");
            for rendition in said {
                let level = dbfs(&rendition.pcm);
                assert!(
                    (-31.0..-18.0).contains(&level),
                    "{language} {phrase:?}: {level} dBFS"
                );
            }
        }
    }
}

#[test]
fn every_codec_hears_the_same_sentence_at_speech_level() {
    let (prompts, _) = Prompts::load(&bare());
    for codec in Codec::ALL {
        let [rendition] = prompts
            .say(&ENGLISH, &[Phrase::WrongPin], codec)
            .try_into()
            .unwrap();
        assert_eq!(rendition.codec, codec);
        assert!(
            (900..2_500).contains(&(rendition.frames() * 20)),
            "{codec:?}"
        );
        for index in 0..rendition.frames() {
            assert!(!rendition.frame(index).unwrap().is_empty());
            assert_eq!(
                rendition.frame_pcm(index).unwrap().len(),
                codec.sample_rate().frame_samples()
            );
        }
        let level = dbfs(&rendition.pcm);
        assert!((-29.0..-21.0).contains(&level), "{codec:?}: {level} dBFS");
    }
}

#[test]
fn a_recording_is_encoded_once() {
    let (prompts, _) = Prompts::load(&bare());
    let first = prompts.say(&ITALIAN, &[Phrase::Goodbye], Codec::Pcmu);
    let second = prompts.say(&ITALIAN, &[Phrase::Goodbye], Codec::Pcmu);
    assert!(Arc::ptr_eq(&first[0], &second[0]));
    assert!(Arc::ptr_eq(
        &prompts.music(&ITALIAN, Codec::Pcmu),
        &prompts.music(&ITALIAN, Codec::Pcmu)
    ));
}

#[test]
fn two_phrases_are_set_apart_by_a_tenth_of_a_second() {
    let (prompts, _) = Prompts::load(&bare());
    let said = prompts.say(&ITALIAN, &[Phrase::Welcome, Phrase::EnterPin], Codec::G722);
    let [_, gap, _] = said.try_into().unwrap();
    assert_eq!(gap.frames(), 5);
    assert!(gap.pcm.iter().all(|&sample| sample == 0));
    assert!(prompts.say(&ITALIAN, &[], Codec::G722).is_empty());
}

#[test]
fn the_music_is_one_loop_of_whole_frames_in_every_codec() {
    let (prompts, _) = Prompts::load(&bare());
    for codec in [Codec::Pcmu, Codec::G722] {
        let music = prompts.music(&ITALIAN, codec);
        assert_eq!(music.frames(), 24 * 50 + 25, "{codec:?}");
        let level = dbfs(&music.pcm);
        assert!((-28.5..-24.0).contains(&level), "{codec:?}: {level} dBFS");
    }
}

#[test]
fn an_operators_recording_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "it/welcome.wav", &tone_file(440.0, 5_000));
    write(folder.path(), "join-tone.wav", &tone_file(300.0, 700));
    write(folder.path(), "music.wav", &tone_file(300.0, 4_000));
    let (prompts, problems) = Prompts::load(&own(folder.path()));
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(
        prompts.sources(&ITALIAN, &Phrase::Welcome),
        [(ClipName("welcome"), Source::Own)]
    );
    let said = prompts.say(&ITALIAN, &[Phrase::Welcome], Codec::Pcma);
    assert_eq!(milliseconds(&said), 5_080);
    assert_eq!(prompts.music(&ITALIAN, Codec::Pcma).frames(), 200);
    let tone = prompts.say(&ENGLISH, &[Phrase::JoinTone], Codec::Pcma);
    assert_eq!(milliseconds(&tone), 700);
    assert_eq!(prompts.count(Language::Italian, Source::Own), 1);
    assert_eq!(prompts.count(Language::English, Source::Own), 0);
}

#[test]
fn an_organisation_s_recordings_are_heard_by_its_callers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, ms| write(folder.path(), name, &tone_file(440.0, ms));
    put("it/welcome.wav", 5_000);
    put("music.wav", 4_000);
    put("organisations/demo/it/welcome.wav", 3_000);
    put("organisations/demo/music.wav", 2_000);
    put("organisations/demo/join-tone.wav", 600);
    put("organisations/Other University/it/goodbye.wav", 1_000);
    let (prompts, problems) = Prompts::load(&own(folder.path()));
    assert!(problems.is_empty(), "{problems:?}");
    let of = |name| Voice {
        language: Language::Italian,
        brand: Some(Brand::of(name)),
    };
    assert_eq!(
        prompts.music(&of("demo"), Codec::Opus).frames(),
        200,
        "it isn't ready, and isn't waited for"
    );
    prompts.warm_up_with(&[Codec::Opus]);
    let last = |voice: &Voice, phrase| milliseconds(&prompts.say(voice, &[phrase], Codec::Pcma));
    for (voice, welcome, music) in [
        (of("demo"), 3_080, 100),
        (of("Other University"), 5_080, 200),
        (of("nobody"), 5_080, 200),
        (ITALIAN, 5_080, 200),
    ] {
        assert_eq!(last(&voice, Phrase::Welcome), welcome, "{voice:?}");
        assert_eq!(prompts.music(&voice, Codec::Opus).frames(), music);
    }
    assert_eq!(last(&of("demo"), Phrase::JoinTone), 600);
    assert_ne!(last(&ITALIAN, Phrase::JoinTone), 600);
    assert_eq!(last(&of("Other University"), Phrase::Goodbye), 1_080);
    // What it has none of is everybody's, also in its other language.
    assert_eq!(
        last(&of("demo"), Phrase::Goodbye),
        last(&ITALIAN, Phrase::Goodbye)
    );
    let english = Voice {
        language: Language::English,
        ..of("demo")
    };
    assert_eq!(
        prompts.sources(&english, &Phrase::Welcome),
        prompts.sources(&ENGLISH, &Phrase::Welcome)
    );
}

#[test]
fn what_is_no_organisation_s_recording_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| write(folder.path(), name, bytes);
    put("organisations/demo/it/wellcome.wav", &tone_file(440.0, 300));
    put("organisations/demo/it/goodbye.wav", b"no sound");
    put("organisations/welcome.wav", b"");
    put("organisations/ demo/it/welcome.wav", b"");
    let (_, problems) = Prompts::load(&own(folder.path()));
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for (path, why) in [
        (" demo is", "never used"),
        ("organisations/welcome.wav is", "never used"),
        ("organisations/demo/it/wellcome.wav", "never used"),
        ("organisations/demo/it/goodbye.wav", "can't be used"),
    ] {
        let found = told.iter().filter(|t| t.contains(path) && t.contains(why));
        assert_eq!(found.count(), 1, "{path}: {told:?}");
    }
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn broken_files_and_folders_are_told_and_the_call_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "it/welcome.wav",
        b"RIFF\xFF\xFF\xFF\xFFWAVEfmt garbage",
    );
    write(folder.path(), "it/goodbye.g722", b"");
    write(
        folder.path(),
        "it/muted.wav",
        &wav::tests::file(3, 2, 48_000, 32, &[0; 64]),
    );
    write(folder.path(), "it/wellcome.wav", &tone_file(440.0, 300));
    write(folder.path(), "it/unmuted.mp3", b"ID3");
    write(folder.path(), "it/NOTES.txt", b"recorded by Ada");
    write(folder.path(), "en/number-1.wav", &tone_file(440.0, 61_000));
    write(folder.path(), "musik.wav", &tone_file(440.0, 300));
    fs::create_dir(folder.path().join("en/welcome.wav")).unwrap();
    let (prompts, problems) = Prompts::load(&own(folder.path()));
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for (name, why) in [
        ("it/welcome.wav", "does not say how it is coded"),
        ("it/goodbye.g722", "the file is empty"),
        ("it/muted.wav", "format 3, 32 bit"),
        ("it/wellcome.wav", "never used"),
        ("it/unmuted.mp3", "never used"),
        ("en/number-1.wav", "longer than 60 seconds"),
        ("musik.wav", "never used"),
        ("en/welcome.wav", "not a regular file"),
    ] {
        let path = folder.path().join(name).display().to_string();
        let hits = told
            .iter()
            .filter(|t| t.contains(&path) && t.contains(why))
            .count();
        assert_eq!(hits, 1, "{name}: {why} in {told:#?}");
    }
    assert_eq!(told.len(), 8, "{told:#?}");
    for phrase in [Phrase::Welcome, Phrase::Goodbye, Phrase::Muted] {
        let said = prompts.say(&ITALIAN, std::slice::from_ref(&phrase), Codec::Pcmu);
        assert_eq!(said.len(), 1, "{phrase:?}");
        assert_eq!(prompts.sources(&ITALIAN, &phrase)[0].1, Source::Shipped);
    }
}

#[test]
fn missing_folders_are_told_with_what_to_do() {
    let nowhere = Path::new("/nonexistent/prompts");
    let folders = PromptFolders {
        own: Some(nowhere.to_owned()),
        recordings: Some(nowhere.to_owned()),
    };
    let (prompts, problems) = Prompts::load(&folders);
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].contains("/nonexistent/prompts does not exist"));
    assert!(
        told[1].contains("apt-get install asterisk-core-sounds-it asterisk-core-sounds-it-g722")
    );
    assert!(
        told[2].contains("apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-g722")
    );
    assert_eq!(
        prompts.say(&ITALIAN, &[Phrase::Welcome], Codec::Pcmu).len(),
        1
    );
}

#[test]
fn silence_in_an_operators_file_is_left_out_and_the_rest_said() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "en/welcome.wav",
        &wav::tests::file(1, 1, 8_000, 16, &[0; 8_000]),
    );
    let (prompts, _) = Prompts::load(&own(folder.path()));
    let said = prompts.say(&ENGLISH, &[Phrase::Welcome, Phrase::Goodbye], Codec::Pcmu);
    assert_eq!(said.len(), 1);
}

/// A folder as Debian's packages would fill it, with a tone for each recording but `missing`.
fn like_debian(missing: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for language in Language::ALL {
        for part in entries(language).iter().flat_map(|entry| &entry.recordings) {
            let ms = part.cut.map_or(400, |cut| cut.whole_ms);
            if !missing.contains(&part.file) {
                write(
                    folder.path(),
                    &format!("{language}/{}.wav", part.file),
                    &tone_file(440.0, ms),
                );
            }
        }
    }
    folder
}

#[test]
fn installed_recordings_come_before_the_synthetic_voice() {
    let folder = like_debian(&[]);
    let folders = PromptFolders {
        own: None,
        recordings: Some(folder.path().to_owned()),
    };
    let (prompts, problems) = Prompts::load(&folders);
    assert!(problems.is_empty(), "{problems:?}");
    for language in Language::ALL {
        for phrase in everyday() {
            let sources = prompts.sources(&Voice::everybodys(language), &phrase);
            assert!(
                sources.iter().all(|(_, s)| *s != Source::Shipped),
                "{language} {phrase:?}"
            );
        }
    }
    // Two recordings of 400 ms with their breath of 20 and 60 ms each.
    let pin = prompts.say(&ITALIAN, &[Phrase::EnterPin], Codec::Pcmu);
    assert_eq!(milliseconds(&pin), 960);
    // The beginning of the recording that welcomes to something else.
    let welcome = prompts.say(&ITALIAN, &[Phrase::Welcome], Codec::Pcmu);
    assert!(milliseconds(&welcome).abs_diff(635 + 80) <= 20);
}

#[test]
fn a_sentence_is_said_in_one_voice() {
    let folder = like_debian(&["digits/7"]);
    let folders = PromptFolders {
        own: None,
        recordings: Some(folder.path().to_owned()),
    };
    let (prompts, _) = Prompts::load(&folders);
    let sources = |count| {
        let all = prompts.sources(&ENGLISH, &Phrase::OthersPresent(count));
        all.into_iter()
            .map(|(_, source)| source)
            .collect::<Vec<_>>()
    };
    assert_eq!(sources(6), [Source::Recorded; 3]);
    assert_eq!(sources(7), [Source::Shipped; 3]);
}

#[test]
fn a_cut_is_not_made_in_another_recording_of_that_name() {
    let folder = like_debian(&[]);
    write(
        folder.path(),
        "it/dir-welcome.wav",
        &tone_file(440.0, 1_500),
    );
    let folders = PromptFolders {
        own: None,
        recordings: Some(folder.path().to_owned()),
    };
    let (prompts, _) = Prompts::load(&folders);
    assert_eq!(
        prompts.sources(&ITALIAN, &Phrase::Welcome)[0].1,
        Source::Shipped
    );
    assert_eq!(
        prompts.sources(&ENGLISH, &Phrase::Welcome)[0].1,
        Source::Recorded
    );
}

/// The real recordings, where Debian's packages are installed; `make test` installs them.
#[test]
fn the_everyday_path_has_a_human_voice_where_the_recordings_are_installed() {
    let folders = PromptFolders::default();
    let installed = |l: Language| {
        folders
            .recordings
            .as_ref()
            .is_some_and(|folder| folder.join(l.code()).is_dir())
    };
    let (prompts, _) = Prompts::load(&folders);
    for language in Language::ALL.into_iter().filter(|l| installed(*l)) {
        for phrase in everyday() {
            for (clip, source) in prompts.sources(&Voice::everybodys(language), &phrase) {
                assert_ne!(source, Source::Shipped, "{language} {phrase:?}: {clip}");
            }
        }
        for phrase in [Phrase::Welcome, Phrase::EnterPin, Phrase::OthersPresent(21)] {
            for rendition in prompts.say(
                &Voice::everybodys(language),
                std::slice::from_ref(&phrase),
                Codec::G722,
            ) {
                let level = dbfs(&rendition.pcm);
                assert!(
                    (-32.0..-21.0).contains(&level),
                    "{language} {phrase:?}: {level} dBFS"
                );
            }
        }
    }
}

#[test]
fn loading_decodes_and_encodes_nothing() {
    let (prompts, _) = Prompts::load(&PromptFolders::default());
    assert!(
        prompts
            .spoken
            .values()
            .all(|voices| voices.best.pcm.get().is_none())
    );
    prompts.say(&ITALIAN, &[Phrase::Goodbye], Codec::Pcmu);
    let decoded = prompts
        .spoken
        .values()
        .filter(|voices| voices.best.pcm.get().is_some());
    assert_eq!(decoded.count(), 1);
}

#[test]
fn warming_up_leaves_nothing_to_be_made_during_a_call() {
    let (prompts, _) = Prompts::load(&bare());
    prompts.warm_up_with(&[Codec::Pcmu]);
    let made = |clip: &Clip| of_codec(&clip.renditions, Codec::Pcmu).get().is_some();
    assert!(prompts.spoken.values().all(|voices| made(&voices.best)));
    assert!(prompts.generated.values().all(made) && made(&prompts.gap));
}

#[test]
fn the_operators_guide_lists_every_recording_with_its_texts() {
    let guide = include_str!("../../docs/prompts.md");
    for language in Language::ALL {
        for entry in entries(language) {
            let row = guide
                .lines()
                .find(|l| l.starts_with(&format!("| `{}` |", entry.name)));
            let row = row.unwrap_or_else(|| panic!("{} is not in docs/prompts.md", entry.name));
            assert!(
                row.contains(&format!("| {} |", entry.text)),
                "{language}: {row}"
            );
        }
    }
    for name in GENERATED {
        assert!(guide.contains(&format!("| `{name}` |")), "{name}");
    }
}
