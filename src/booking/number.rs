//! The numbers people dial, as configured.

/// A number that leads here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialInNumber {
    /// E.164 or an extension, as dialled.
    pub number: String,
    /// ISO 3166 alpha-2.
    pub country: Option<String>,
    /// The language callers are greeted in.
    pub language: Option<crate::units::Language>,
    /// The organisation whose meetings it serves; `None`: everybody's.
    pub organisation: Option<String>,
    /// For people: "Rome, toll-free".
    pub label: Option<String>,
}

impl DialInNumber {
    /// Does it lead to meetings of this organisation?
    #[must_use]
    pub fn serves(&self, organisation: &str) -> bool {
        self.organisation
            .as_deref()
            .is_none_or(|owner| owner == organisation)
    }
}
