//! The texts of a language: one line per recording in `sounds/LANGUAGE/phrases.txt`, with what it
//! says and which of Debian's recordings for Asterisk say the same.
#![deny(clippy::indexing_slicing)]

use std::fmt;

use crate::units::Language;

/// The name of one recording, as its file is called without ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClipName(pub(super) &'static str);

impl ClipName {
    /// The bare name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for ClipName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// One line of the texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// What the recording is called.
    pub name: ClipName,
    /// What it says.
    pub text: &'static str,
    /// Debian's recordings that say it, one after the other; empty: none do.
    pub recordings: Vec<Part>,
}

/// A recording of Debian's, or its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// File name without ending, relative to the language's folder.
    pub file: &'static str,
    /// Only its beginning says what is meant.
    pub cut: Option<Cut>,
}

/// The beginning of a recording. The whole length tells whether it is the recording that was
/// listened to when the cut was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// What is used of it, in ms.
    pub keep_ms: u32,
    /// How long all of it is, in ms.
    pub whole_ms: u32,
}

/// All recordings of `language`, in the order of the file.
#[must_use]
pub(super) fn entries(language: Language) -> Vec<Entry> {
    source(language).lines().filter_map(parse_line).collect()
}

const fn source(language: Language) -> &'static str {
    match language {
        Language::Italian => include_str!("../../sounds/it/phrases.txt"),
        Language::English => include_str!("../../sounds/en/phrases.txt"),
    }
}

fn parse_line(line: &'static str) -> Option<Entry> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = line.split('\t');
    let (name, text) = (fields.next()?, fields.next()?);
    let recordings = fields
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(parse_part);
    Some(Entry {
        name: ClipName(name),
        text,
        recordings: recordings.collect(),
    })
}

/// `file` or `file[keep/whole]`.
fn parse_part(word: &'static str) -> Part {
    let Some((file, lengths)) = word.split_once('[') else {
        return Part {
            file: word,
            cut: None,
        };
    };
    let cut = lengths
        .strip_suffix(']')
        .and_then(|l| l.split_once('/'))
        .and_then(|(keep, whole)| {
            Some(Cut {
                keep_ms: keep.parse().ok()?,
                whole_ms: whole.parse().ok()?,
            })
        });
    Part { file, cut }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_line_names_a_recording_its_text_and_who_recorded_it() {
        assert_eq!(
            parse_line("welcome\tWelcome.\tdir-welcome[660/1797] beep"),
            Some(Entry {
                name: ClipName("welcome"),
                text: "Welcome.",
                recordings: vec![
                    Part {
                        file: "dir-welcome",
                        cut: Some(Cut {
                            keep_ms: 660,
                            whole_ms: 1797
                        })
                    },
                    Part {
                        file: "beep",
                        cut: None
                    },
                ],
            })
        );
        assert_eq!(parse_line("# a remark"), None);
        assert_eq!(
            parse_line("opens-at\tThe meeting opens at").map(|e| e.recordings),
            Some(vec![])
        );
    }

    #[test]
    fn every_line_of_every_language_is_read_and_no_name_comes_twice() {
        for language in Language::ALL {
            let lines = source(language)
                .lines()
                .filter(|l| !l.starts_with('#'))
                .count();
            let entries = entries(language);
            assert_eq!(entries.len(), lines, "{language}");
            let names: HashSet<_> = entries.iter().map(|e| e.name).collect();
            assert_eq!(names.len(), lines, "{language}");
            assert!(
                entries.iter().all(|e| !e.text.trim().is_empty()),
                "{language}"
            );
            let brackets = source(language)
                .lines()
                .filter(|l| !l.starts_with('#') && l.contains('['));
            let cuts = entries
                .iter()
                .flat_map(|e| &e.recordings)
                .filter(|p| p.cut.is_some());
            assert_eq!(
                cuts.count(),
                brackets.count(),
                "{language}: a cut that was not understood"
            );
        }
    }
}
