//! What was written: the values of a file and of the environment, each with its place, before
//! anybody asks what they mean. Only names and kinds are checked here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::error::{ConfigError, Origin};
use crate::config::keys::{self, KeyInfo, Kind};
use crate::config::secret::Secret;

/// What every environment variable of ours begins with.
const ENVIRONMENT_PREFIX: &str = "VOICEBRIDGE_";

/// A value as written, of the kind that its key asks for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Secret(Secret),
    Integer(i64),
    Boolean(bool),
    List(Vec<(String, Origin)>),
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// The values of one table, by the full name of their key.
pub(super) type Items = BTreeMap<&'static str, Item>;

/// One table of a repeatable section.
#[derive(Debug)]
pub(super) struct RawTable {
    pub(super) origin: Origin,
    pub(super) items: Items,
}

/// Everything that was written.
#[derive(Debug, Default)]
pub(super) struct RawConfig {
    pub(super) plain: Items,
    pub(super) tables: BTreeMap<&'static str, Vec<RawTable>>,
}

impl RawConfig {
    /// Takes over what the TOML document `text` says.
    pub(super) fn add_file(&mut self, file: &Path, text: &str, errors: &mut Vec<ConfigError>) {
        let (document, syntax) = DeTable::parse_recoverable(text);
        let source = Source { file, text };
        errors.extend(syntax.iter().map(|error| source.syntax(error)));
        source.read_section("", document.get_ref(), self, errors);
    }

    /// Takes over `VOICEBRIDGE_SECTION__KEY` variables; they win over the file.
    pub(super) fn add_environment(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        errors: &mut Vec<ConfigError>,
    ) {
        let mut items = Items::new();
        for (variable, value) in environment {
            let Some(name) = variable
                .to_str()
                .filter(|name| name.starts_with(ENVIRONMENT_PREFIX))
            else {
                continue;
            };
            match read_variable(name, value) {
                Ok(Some((info, item))) => add(&mut items, info, item, errors),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        self.plain.extend(items);
    }
}

/// A file's name and text, to say where something stands.
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn origin(&self, offset: usize) -> Origin {
        Origin::in_file(self.file, self.text, offset)
    }

    /// Only the parser's own words: its full message quotes the line, which may hold a secret.
    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let offset = error.span().map_or(self.text.len(), |span| span.start);
        ConfigError::Syntax {
            origin: self.origin(offset),
            reason: error.message().replace('\n', ", "),
        }
    }

    /// Reads one section of plain keys; `section` is its name with a dot behind, or empty.
    fn read_section(
        &self,
        section: &str,
        table: &DeTable<'_>,
        raw: &mut RawConfig,
        errors: &mut Vec<ConfigError>,
    ) {
        for (name, value) in table {
            let path = format!("{section}{}", name.get_ref());
            let at = || self.origin(name.span().start);
            if keys::TABLES.contains(&path.as_str()) {
                self.read_tables(&path, value, raw, errors);
            } else if keys::is_section(&path) {
                match value.get_ref().as_table() {
                    Some(inner) => self.read_section(&format!("{path}."), inner, raw, errors),
                    None => errors.push(not_a_section(&path, at())),
                }
            } else {
                self.read_key(&path, at(), value, &mut raw.plain, errors);
            }
        }
    }

    /// Reads all tables of a repeatable section.
    fn read_tables(
        &self,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        raw: &mut RawConfig,
        errors: &mut Vec<ConfigError>,
    ) {
        let Some(name) = keys::TABLES.into_iter().find(|table| *table == path) else {
            return;
        };
        let tables = value
            .get_ref()
            .as_array()
            .map(|array| array.iter().collect::<Vec<_>>())
            .unwrap_or_default();
        if tables.is_empty() || tables.iter().any(|table| !table.get_ref().is_table()) {
            errors.push(not_a_list_of_sections(
                path,
                self.origin(value.span().start),
            ));
            return;
        }
        for table in tables {
            let mut items = Items::new();
            for (name, value) in table.get_ref().as_table().into_iter().flatten() {
                let origin = self.origin(name.span().start);
                self.read_key(
                    &format!("{path}.{}", name.get_ref()),
                    origin,
                    value,
                    &mut items,
                    errors,
                );
            }
            raw.tables.entry(name).or_default().push(RawTable {
                origin: self.origin(table.span().start),
                items,
            });
        }
    }

    /// Reads one key into `items`.
    fn read_key(
        &self,
        path: &str,
        origin: Origin,
        value: &Spanned<DeValue<'_>>,
        items: &mut Items,
        errors: &mut Vec<ConfigError>,
    ) {
        let in_same_table = |info: &&KeyInfo| keys::table_of(info.path) == keys::table_of(path);
        let read = if let Some(info) = keys::find(path).filter(in_same_table) {
            self.value(info, value)
                .map(|value| (info, Item { value, origin }))
        } else if let Some(info) = keys::find_file_of(path).filter(in_same_table) {
            let named = value
                .get_ref()
                .as_str()
                .ok_or_else(|| bad_kind(path, Kind::Text, None, origin.clone()));
            named
                .and_then(|named| secret_from_file(path, named, origin))
                .map(|item| (info, item))
        } else {
            Err(unknown(path, origin))
        };
        match read {
            Ok((info, item)) => add(items, info, item, errors),
            Err(error) => errors.push(error),
        }
    }

    /// The value in the kind that the key asks for.
    fn value(&self, info: &KeyInfo, value: &Spanned<DeValue<'_>>) -> Result<Value, ConfigError> {
        let written = value.get_ref();
        let found = match info.kind {
            Kind::Text if info.secret => written
                .as_str()
                .map(|text| Value::Secret(Secret::new(text))),
            Kind::Text => written.as_str().map(|text| Value::Text(text.to_owned())),
            Kind::Integer => written
                .as_integer()
                .and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok())
                .map(Value::Integer),
            Kind::Boolean => written.as_bool().map(Value::Boolean),
            Kind::List => written
                .as_array()
                .and_then(|array| {
                    array
                        .iter()
                        .map(|item| {
                            Some((
                                item.get_ref().as_str()?.to_owned(),
                                self.origin(item.span().start),
                            ))
                        })
                        .collect::<Option<_>>()
                })
                .map(Value::List),
        };
        let quoted = || {
            self.text
                .get(value.span())
                .filter(|_| !info.secret)
                .map(first_line)
        };
        found.ok_or_else(|| {
            bad_kind(
                info.path,
                info.kind,
                quoted(),
                self.origin(value.span().start),
            )
        })
    }
}

/// Reads one of our environment variables; `None` where it isn't meant for us.
///
/// Names without `__` belong to others (a container platform sets `VOICEBRIDGE_PORT` and its like
/// for a service of that name), unless the name is a key of ours but for the doubled underscore.
fn read_variable(
    name: &str,
    value: OsString,
) -> Result<Option<(&'static KeyInfo, Item)>, ConfigError> {
    let origin = Origin::Environment(name.to_owned());
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(name);
    if !rest.contains("__") {
        let meant = keys::KEYS
            .iter()
            .find(|info| info.path.replace('.', "_").eq_ignore_ascii_case(rest));
        return match meant {
            Some(info) => Err(unknown_variable(name, origin, Some(variable_of(info.path)))),
            None => Ok(None),
        };
    }
    let path = rest.to_ascii_lowercase().replace("__", ".");
    let plain = |info: &&KeyInfo| keys::table_of(info.path).is_none();
    let text = |value: OsString| {
        value.into_string().map_err(|_| ConfigError::BadValue {
            origin: origin.clone(),
            key: path.clone(),
            value: None,
            allowed: "must be UTF-8".to_owned(),
        })
    };
    if let Some(info) = keys::find(&path).filter(plain) {
        let value = value_of_variable(info, &text(value)?, &origin)?;
        return Ok(Some((info, Item { value, origin })));
    }
    if let Some(info) = keys::find_file_of(&path).filter(plain) {
        return Ok(Some((
            info,
            secret_from_file(&path, &text(value)?, origin)?,
        )));
    }
    let suggestion = keys::suggestion(&path).filter(|known| keys::table_of(known).is_none());
    Err(unknown_variable(name, origin, suggestion.map(variable_of)))
}

/// A variable's text in the kind that the key asks for.
fn value_of_variable(info: &KeyInfo, text: &str, origin: &Origin) -> Result<Value, ConfigError> {
    let text = text.trim();
    let found = match info.kind {
        Kind::Text if info.secret => Some(Value::Secret(Secret::new(text))),
        Kind::Text => Some(Value::Text(text.to_owned())),
        Kind::Integer => text.parse().ok().map(Value::Integer),
        Kind::Boolean => text.parse().ok().map(Value::Boolean),
        Kind::List => Some(Value::List(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| (item.to_owned(), origin.clone()))
                .collect(),
        )),
    };
    let quoted = Some(format!("{text:?}")).filter(|_| !info.secret);
    found.ok_or_else(|| bad_kind(info.path, info.kind, quoted, origin.clone()))
}

/// The secret that stands in the file `named`; the line end behind it doesn't belong to it.
fn secret_from_file(path: &str, named: &str, origin: Origin) -> Result<Item, ConfigError> {
    match fs::read_to_string(named) {
        Ok(text) => Ok(Item {
            value: Value::Secret(Secret::new(text.trim_end_matches(['\r', '\n']))),
            origin,
        }),
        Err(error) => Err(ConfigError::BadValue {
            origin,
            key: path.to_owned(),
            value: Some(format!("{named:?}")),
            allowed: format!("must name a readable file that holds the secret ({error})"),
        }),
    }
}

/// Keeps `item`, unless the key has a value already: written twice, plainly and as a file.
fn add(items: &mut Items, info: &'static KeyInfo, item: Item, errors: &mut Vec<ConfigError>) {
    let origin = item.origin.clone();
    if items.insert(info.path, item).is_some() {
        let allowed = format!("either {0} or {0}_file, not both", info.path);
        errors.push(ConfigError::BadValue {
            origin,
            key: info.path.to_owned(),
            value: None,
            allowed,
        });
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn variable_of(path: &str) -> String {
    format!(
        "{ENVIRONMENT_PREFIX}{}",
        path.replace('.', "__").to_ascii_uppercase()
    )
}

fn unknown(path: &str, origin: Origin) -> ConfigError {
    let suggestion = keys::suggestion(path).map(|known| {
        if keys::TABLES.contains(&known) {
            format!("[[{known}]]")
        } else {
            known.to_owned()
        }
    });
    ConfigError::UnknownKey {
        origin,
        key: printable(path),
        suggestion,
    }
}

fn unknown_variable(name: &str, origin: Origin, suggestion: Option<String>) -> ConfigError {
    ConfigError::UnknownKey {
        origin,
        key: name.to_owned(),
        suggestion,
    }
}

fn not_a_section(path: &str, origin: Origin) -> ConfigError {
    let allowed = format!("is a section; write [{path}] and its keys below");
    ConfigError::BadValue {
        origin,
        key: path.to_owned(),
        value: None,
        allowed,
    }
}

fn not_a_list_of_sections(path: &str, origin: Origin) -> ConfigError {
    let allowed = format!("may be written several times; write [[{path}]] for each");
    ConfigError::BadValue {
        origin,
        key: path.to_owned(),
        value: None,
        allowed,
    }
}

fn bad_kind(path: &str, kind: Kind, value: Option<String>, origin: Origin) -> ConfigError {
    ConfigError::BadValue {
        origin,
        key: path.to_owned(),
        value,
        allowed: kind.allowed().to_owned(),
    }
}

/// A quoted key may hold anything; what is printed stays on its line.
fn printable(path: &str) -> String {
    path.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors_of(text: &str) -> Vec<String> {
        let mut errors = Vec::new();
        RawConfig::default().add_file(Path::new("x.toml"), text, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn environment_errors(variables: &[(&str, &str)]) -> Vec<String> {
        let mut errors = Vec::new();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        RawConfig::default().add_environment(variables, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unknown_keys_are_named_with_their_place_and_what_was_meant() {
        assert_eq!(
            errors_of("[sip]\n  lisen = []\n\n[weather]\nrain = true\n"),
            [
                "x.toml:2:3: unknown key sip.lisen; did you mean sip.listen?",
                "x.toml:4:2: unknown key weather"
            ]
        );
        assert_eq!(
            errors_of("[[numbers]]\n"),
            ["x.toml:1:3: unknown key numbers; did you mean [[number]]?"]
        );
        assert_eq!(
            errors_of("[[number]]\nnumer = '1'\n"),
            ["x.toml:2:1: unknown key number.numer; did you mean number.number?"]
        );
    }

    #[test]
    fn a_wrong_kind_is_named_with_its_place_its_value_and_what_is_allowed() {
        assert_eq!(
            errors_of("pin.length = 'ten'\n"),
            ["x.toml:1:14: pin.length = 'ten': must be a whole number"]
        );
        assert_eq!(
            errors_of("[sip]\nlisten = 'udp:0.0.0.0:5060'\n"),
            [
                "x.toml:2:10: sip.listen = 'udp:0.0.0.0:5060': must be a list of texts, like [\"one\", \"two\"]"
            ]
        );
        assert_eq!(
            errors_of("sip = 3\n"),
            ["x.toml:1:1: sip: is a section; write [sip] and its keys below"]
        );
        assert_eq!(
            errors_of("[number]\n"),
            ["x.toml:1:1: number: may be written several times; write [[number]] for each"]
        );
    }

    #[test]
    fn syntax_errors_are_all_reported_and_never_quote_the_line() {
        let errors = errors_of("pin.length = = 3\n[[asterisk]]\npassword = \"canary\nname = \n");
        assert!(errors.len() >= 2, "{errors:?}");
        assert!(
            errors.iter().any(|error| error.starts_with("x.toml:1:")),
            "{errors:?}"
        );
        assert!(
            errors.iter().any(|error| error.starts_with("x.toml:3:")),
            "{errors:?}"
        );
        assert!(
            errors.iter().all(|error| !error.contains("canary")),
            "{errors:?}"
        );
    }

    #[test]
    fn a_secret_of_the_wrong_kind_is_not_printed() {
        assert_eq!(
            errors_of("[[asterisk]]\npassword = 4711\n"),
            ["x.toml:2:12: asterisk.password: must be a text in quotes"]
        );
        assert_eq!(
            environment_errors(&[("VOICEBRIDGE_DATABASE__URL", "x")]),
            [""; 0]
        );
    }

    #[test]
    fn variables_with_a_slip_are_refused_and_those_of_others_left_alone() {
        assert_eq!(
            environment_errors(&[
                ("VOICEBRIDGE_PORT", "1"),
                ("VOICEBRIDGE_SERVICE_HOST", "h"),
                ("HOME", "/")
            ]),
            [""; 0]
        );
        assert_eq!(
            environment_errors(&[("VOICEBRIDGE_SIP_LISTEN", "udp:0.0.0.0:1")]),
            [
                "environment VOICEBRIDGE_SIP_LISTEN: unknown key VOICEBRIDGE_SIP_LISTEN; did you mean VOICEBRIDGE_SIP__LISTEN?"
            ]
        );
        assert_eq!(
            environment_errors(&[("VOICEBRIDGE_PIN__LENGHT", "9")]),
            [
                "environment VOICEBRIDGE_PIN__LENGHT: unknown key VOICEBRIDGE_PIN__LENGHT; did you mean VOICEBRIDGE_PIN__LENGTH?"
            ]
        );
        assert_eq!(
            environment_errors(&[("VOICEBRIDGE_PIN__LENGTH", "nine")]),
            ["environment VOICEBRIDGE_PIN__LENGTH: pin.length = \"nine\": must be a whole number"]
        );
    }
}
