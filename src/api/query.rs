//! Query parameters: taken one by one; what is left isn't known and is refused.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use jiff::Timestamp;
use uuid::Uuid;

use super::problem::Problem;
use crate::booking::change::{FieldError, parse_bound};
use crate::booking::privacy::{CallerHash, NotACallerHash};

/// The parameters of a request.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let Some(at) = self.0.iter().position(|(n, _)| n == name) else {
            return Ok(None);
        };
        let (_, value) = self.0.swap_remove(at);
        if self.0.iter().any(|(n, _)| n == name) {
            return Err(wrong(name, "invalid", "must be given once"));
        }
        Ok(Some(value))
    }

    /// An end of a period.
    pub(super) fn time(&mut self, name: &str) -> Result<Option<Timestamp>, Problem> {
        // An unescaped '+' of an offset arrives as a space.
        let text = self.text(name)?.map(|text| text.replace(' ', "+"));
        text.map(|text| parse_bound(name, &text).map_err(Problem::bad_parameter))
            .transpose()
    }

    /// A word of an enum, as serde reads it.
    pub(super) fn word<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &str,
        allowed: &str,
    ) -> Result<Option<T>, Problem> {
        let read = |word: String| serde_json::from_value(serde_json::Value::String(word));
        let refuse = |_| wrong(name, "invalid", &format!("must be one of {allowed}"));
        self.text(name)?
            .map(|word| read(word).map_err(refuse))
            .transpose()
    }

    pub(super) fn uuid(&mut self, name: &str) -> Result<Option<Uuid>, Problem> {
        let read = |text: String| {
            text.parse()
                .map_err(|_| wrong(name, "invalid", "must be a UUID"))
        };
        self.text(name)?.map(read).transpose()
    }

    pub(super) fn caller_hash(&mut self) -> Result<Option<CallerHash>, Problem> {
        let read = |text: String| {
            let refuse = |not: NotACallerHash| wrong("caller_hash", "invalid", &not.to_string());
            CallerHash::try_from(text).map_err(refuse)
        };
        self.text("caller_hash")?.map(read).transpose()
    }

    pub(super) fn limit(&mut self) -> Result<u32, Problem> {
        let Some(text) = self.text("limit")? else {
            return Ok(LIMIT_DEFAULT);
        };
        let fits = text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit));
        fits.ok_or_else(|| {
            wrong(
                "limit",
                "out_of_range",
                &format!("must be a whole number from 1 to {LIMIT_MAX}"),
            )
        })
    }

    /// Where the last page ended.
    pub(super) fn cursor(&mut self) -> Result<Option<(Timestamp, Uuid)>, Problem> {
        let read = |text: String| {
            let (micros, id) = text.split_once('.')?;
            let at = Timestamp::from_microsecond(micros.parse().ok()?).ok()?;
            Some((at, id.parse().ok()?))
        };
        let refuse = || wrong("cursor", "invalid", "must be the `next` of the page before");
        self.text("cursor")?
            .map(|text| read(text).ok_or_else(refuse))
            .transpose()
    }

    /// To be called when every parameter was taken.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
                Err(wrong(
                    &shown,
                    "unknown_parameter",
                    "is not known here; check its spelling",
                ))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let read = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        read.map(|Query(pairs)| Self(pairs))
            .map_err(|_| wrong("", "invalid", "the query can't be read"))
    }
}

/// Where a page ended, for [`Parameters::cursor`].
pub(super) fn cursor(at: Timestamp, id: Uuid) -> String {
    format!("{}.{id}", at.as_microsecond())
}

fn wrong(name: &str, code: &'static str, message: &str) -> Problem {
    Problem::bad_parameter(FieldError::new(name, code, message))
}

/// Items of a page, unless told otherwise.
pub(super) const LIMIT_DEFAULT: u32 = 100;
/// Most items of a page.
pub(super) const LIMIT_MAX: u32 = 1_000;
