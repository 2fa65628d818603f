//! The house rules that a compiler doesn't know: who may import whom, how long a file may be, how a
//! module may not be called, where `unsafe` may stand.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What stands before a module that only tests see.
const TESTS_ONLY: &str = "#[cfg(test)]";

/// A module may import those before it.
const ORDER: [&str; 17] = [
    "units",
    "token_bucket",
    "config",
    "media",
    "handshake",
    "booking",
    "sip",
    "ari",
    "call",
    "engine",
    "signalling",
    "webhooks",
    "api",
    "prompts",
    "probe",
    "app",
    "main",
];

/// A file's lines, its tests at the bottom not counted.
const LINES_MAX: usize = 600;

/// A function belongs to the type it serves, never to one of these.
const FORBIDDEN_NAMES: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "manager"];

/// Where `unsafe` may stand, and why.
const UNSAFE_ALLOWED: [&str; 5] = [
    "src/engine/",             // system calls
    "src/media/codec/g711.rs", // vector instructions
    "src/media/codec/opus.rs", // a C library
    "src/media/prefetch.rs",   // one instruction
    "src/media/resample.rs",   // vector instructions
];

/// One source file; `path` as in `src/media/mixer.rs`.
struct SourceFile {
    path: String,
    text: String,
}

/// A house rule that was broken.
#[derive(Debug, PartialEq, Eq)]
struct Offence {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

impl SourceFile {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The top-level module that the file belongs to; `None` for the map itself.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (name != "lib").then_some(name)
    }

    fn offence(&self, line: usize, what: String) -> Offence {
        Offence {
            path: self.path.clone(),
            line,
            what,
        }
    }

    fn offences(&self) -> Vec<Offence> {
        let code = code_only(&self.text);
        let mut offences = Vec::new();
        offences.extend(self.wrong_imports(&code));
        offences.extend(self.forbidden_name());
        offences.extend(self.wrong_unsafe(&code));
        offences
    }

    /// Paths into the crate that lead to a module at or after... itself excepted.
    fn wrong_imports(&self, code: &str) -> Vec<Offence> {
        let Some(module) = self.module() else {
            return Vec::new();
        };
        let Some(position) = rank(module) else {
            return vec![self.offence(
                1,
                format!("module {module} has no place in the order of dependency"),
            )];
        };
        let allowed =
            |target: &str| target == module || rank(target).is_some_and(|rank| rank < position);
        imports(code)
            .into_iter()
            .filter(|(_, target)| !allowed(target))
            .map(|(line, target)| self.offence(line, format!("{module} may not use {target}")))
            .collect()
    }

    fn too_long(&self) -> Option<Offence> {
        let lines = self.text.lines().count() - self.test_lines();
        let what = format!("{lines} lines, at most {LINES_MAX} are allowed");
        (lines > LINES_MAX).then(|| self.offence(lines, what))
    }

    /// Lines of the test module at the bottom.
    fn test_lines(&self) -> usize {
        let lines: Vec<_> = self.text.lines().collect();
        let begins = |at: usize| {
            let mut after = lines[at + 1..]
                .iter()
                .skip_while(|line| line.starts_with("#["));
            let opens = |line: &&str| line.starts_with("mod ") && line.ends_with('{');
            lines[at] == TESTS_ONLY && after.next().is_some_and(opens)
        };
        (0..lines.len())
            .find(|at| begins(*at))
            .map_or(0, |at| lines.len() - at)
    }

    /// Files that only tests see: `#[cfg(test)] mod scenarios;` here makes `scenarios.rs` one.
    fn test_files(&self) -> Vec<String> {
        let folder = self
            .path
            .trim_end_matches("/mod.rs")
            .trim_end_matches(".rs");
        let lines: Vec<_> = self.text.lines().collect();
        let modules = lines.windows(2).filter(|pair| pair[0] == TESTS_ONLY);
        let names = modules.filter_map(|pair| {
            let rest = pair[1].strip_suffix(';')?;
            rest.split_once("mod ").map(|(_, name)| name)
        });
        names.map(|name| format!("{folder}/{name}.rs")).collect()
    }

    fn forbidden_name(&self) -> Option<Offence> {
        let bad = self
            .path
            .split('/')
            .map(|part| part.trim_end_matches(".rs"))
            .find(|part| FORBIDDEN_NAMES.contains(part))?;
        Some(self.offence(1, format!("a module may not be called {bad}")))
    }

    fn wrong_unsafe(&self, code: &str) -> Vec<Offence> {
        if UNSAFE_ALLOWED
            .iter()
            .any(|allowed| self.path.starts_with(allowed))
        {
            return Vec::new();
        }
        let has_unsafe = |line: &str| words(line).any(|word| word == "unsafe");
        let lines = code
            .lines()
            .enumerate()
            .filter(|(_, line)| has_unsafe(line));
        lines
            .map(|(index, _)| self.offence(index + 1, "unsafe may not stand here".to_owned()))
            .collect()
    }
}

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == module)
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The modules that `code` reaches for by `crate::` (or `voicebridge::`, in the program itself),
/// with their lines. `crate::{a, b::c}` counts for each.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for root in ["crate::", "voicebridge::"] {
        for (start, _) in code.match_indices(root) {
            let part_of_a_word = code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if part_of_a_word {
                continue;
            }
            let line = code[..start].matches('\n').count() + 1;
            let rest = &code[start + root.len()..];
            found.extend(heads(rest).into_iter().map(|head| (line, head)));
        }
    }
    found
}

/// The first name of a path, or of each path in braces.
fn heads(rest: &str) -> Vec<String> {
    let rest = rest.trim_start();
    match rest.strip_prefix('{') {
        None => vec![name_at_start(rest)],
        Some(inside) => top_level_items(inside).map(name_at_start).collect(),
    }
}

/// What stands between commas up to the closing brace, inner braces left alone.
fn top_level_items(inside: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let mut start = 0;
    let mut items = Vec::new();
    for (index, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&inside[start..index]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&inside[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    items
        .into_iter()
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn name_at_start(path: &str) -> String {
    path.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// The text with comments and literals blanked, so that only code is looked at. Lines stay.
fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = literal_or_comment(rest).unwrap_or(0);
        if skip == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(
                rest[..skip]
                    .chars()
                    .map(|c| if c == '\n' { '\n' } else { ' ' }),
            );
            rest = &rest[skip..];
        }
    }
    out
}

/// How many bytes the comment or literal at the start of `rest` takes.
fn literal_or_comment(rest: &str) -> Option<usize> {
    let until = |end: &str, from: usize| {
        rest[from..]
            .find(end)
            .map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(until("*/", 2));
    }
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return Some(until(&format!("\"{}", "#".repeat(hashes)), hashes + 2));
        }
    }
    if rest.starts_with('"') {
        return Some(escaped_until(rest, '"'));
    }
    // A lifetime is no literal: only 'x' and '\x' are.
    let mut after = rest.strip_prefix('\'')?.chars();
    match (after.next()?, after.next()?) {
        ('\\', _) => Some(escaped_until(rest, '\'')),
        (c, '\'') => Some(c.len_utf8() + 2),
        _ => None,
    }
}

/// The length of a literal that `quote` opens and closes, escapes respected.
fn escaped_until(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        if !escaped && c == quote {
            return index + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("src is a folder") {
        let path = entry.expect("src can be listed").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_house_rules_are_kept() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = rust_files(&root.join("src"));
    assert!(files.len() > 10, "where is the source?");
    let sources: Vec<_> = files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(root).unwrap().to_str().unwrap();
            SourceFile::new(path, &fs::read_to_string(file).unwrap())
        })
        .collect();
    let only_for_tests: Vec<_> = sources.iter().flat_map(SourceFile::test_files).collect();
    let counted = sources
        .iter()
        .filter(|file| !only_for_tests.contains(&file.path));
    let mut offences: Vec<_> = sources.iter().flat_map(SourceFile::offences).collect();
    offences.extend(counted.filter_map(SourceFile::too_long));
    let list: Vec<_> = offences.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "\n{}", list.join("\n"));
}

#[test]
fn the_map_lists_the_modules_in_their_order() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let listed: Vec<_> = map
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(|name| rank(name).unwrap_or_else(|| panic!("{name} has no place in the order")))
        .collect();
    assert!(listed.is_sorted(), "src/lib.rs is out of order");
}

mod the_checker {
    use super::*;

    fn offences(path: &str, text: &str) -> Vec<String> {
        SourceFile::new(path, text)
            .offences()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn finds_a_wrong_import_however_it_is_written() {
        for text in [
            "use crate::engine::Control;\n",
            "use crate::{units::Key, engine::{Control, EngineEvent}};\n",
            "use crate::{\n    units::Key,\n    engine,\n};\n",
            "fn f() { crate::engine::start(); }\n",
            "pub(in crate::engine) fn f() {}\n",
        ] {
            assert_eq!(
                offences("src/media/mixer.rs", text),
                ["src/media/mixer.rs:1: media may not use engine"],
                "{text}"
            );
        }
        assert_eq!(
            offences("src/units.rs", "\nuse crate::config::Config;\n"),
            ["src/units.rs:2: units may not use config"]
        );
    }

    #[test]
    fn leaves_right_imports_comments_and_literals_alone() {
        for text in [
            "use crate::units::Key;\nuse crate::config::Config;\nuse crate::media::leg::Leg;\n",
            "//! See [`crate::engine`].\n/* crate::engine */\n",
            "const S: &str = \"crate::engine \\\" unsafe\"; const R: &str = r#\"crate::engine \" \"#;\n",
            "fn f<'a>(x: &'a str) -> char { '\"' }\nconst Q: char = '\\'';\n// crate::engine\n",
            "use other_crate::engine::X;\n",
        ] {
            assert_eq!(offences("src/media/mixer.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn finds_code_that_follows_a_literal() {
        let text = "const Q: char = '\"'; use crate::api::X; // \"\n";
        assert_eq!(
            offences("src/sip/x.rs", text),
            ["src/sip/x.rs:1: sip may not use api"]
        );
    }

    #[test]
    fn finds_modules_without_a_place_and_with_a_bad_name() {
        assert_eq!(
            offences("src/misc.rs", ""),
            ["src/misc.rs:1: module misc has no place in the order of dependency"]
        );
        assert_eq!(
            offences("src/sip/utils.rs", ""),
            ["src/sip/utils.rs:1: a module may not be called utils"]
        );
        assert_eq!(
            offences("src/call/manager/mod.rs", ""),
            ["src/call/manager/mod.rs:1: a module may not be called manager"]
        );
    }

    #[test]
    fn finds_files_that_are_too_long_but_not_their_tests() {
        let long = "\n".repeat(LINES_MAX + 1);
        let too_long = |text: &str| SourceFile::new("src/call/x.rs", text).too_long().is_some();
        assert!(too_long(&long));
        assert!(too_long(&format!(
            "#[cfg(test)]\nuse crate::units::Key;\n{long}"
        )));
        assert!(!too_long(&format!(
            "#[cfg(test)]\nmod tests {{\n{long}}}\n"
        )));
    }

    #[test]
    fn finds_files_that_only_tests_see() {
        let text = "mod walk;\n#[cfg(test)]\nmod scenarios;\n#[cfg(test)]\nmod tests {\n}\n";
        let files = |path: &str| SourceFile::new(path, text).test_files();
        assert_eq!(files("src/call/mod.rs"), ["src/call/scenarios.rs"]);
        assert_eq!(files("src/call/state.rs"), ["src/call/state/scenarios.rs"]);
    }

    #[test]
    fn finds_unsafe_where_it_may_not_stand() {
        let text = "// unsafe\nfn f() { unsafe { g() } }\n";
        assert_eq!(
            offences("src/sip/x.rs", text),
            ["src/sip/x.rs:2: unsafe may not stand here"]
        );
        assert_eq!(offences("src/engine/socket.rs", text), [""; 0]);
        assert_eq!(offences("src/media/codec/opus.rs", text), [""; 0]);
        assert_eq!(offences("src/media/codec/g711.rs", text), [""; 0]);
        assert_eq!(offences("src/media/codec/g722.rs", text).len(), 1);
    }

    #[test]
    fn reads_the_program_like_any_module() {
        assert_eq!(
            offences(
                "src/main.rs",
                "use voicebridge::app::cli::Cli;\nfn main() {}\n"
            ),
            [""; 0]
        );
        assert_eq!(offences("src/app/mod.rs", "use crate::main::X;\n").len(), 1);
    }
}
