//! What happened with an Asterisk, counted.

/// Counted since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AriCounters {
    /// Events of a kind that is of no use here.
    pub ignored: u64,
    /// Messages that can't be read.
    pub malformed: u64,
    /// Requests that were refused, where success was expected.
    pub refused: u64,
    /// Requests that were not answered in time.
    pub unanswered: u64,
    /// Answers to nothing that is asked any more.
    pub stray: u64,
    /// Callers found in the application whose arrival was not told.
    pub adopted: u64,
    /// Those of them that were another node's.
    pub taken_over: u64,
    /// Channels and bridges of ours that belonged to nobody any more.
    pub orphans: u64,
    /// Callers whose phones speak what Asterisk has to transcode to G.722.
    pub transcoded: u64,
    /// Connections that were opened.
    pub connections: u64,
}

impl AriCounters {
    /// Each with its word.
    #[must_use]
    pub const fn in_words(&self) -> [(&'static str, u64); 10] {
        [
            ("ignored", self.ignored),
            ("malformed", self.malformed),
            ("refused", self.refused),
            ("unanswered", self.unanswered),
            ("stray", self.stray),
            ("adopted", self.adopted),
            ("taken_over", self.taken_over),
            ("orphan", self.orphans),
            ("transcoded", self.transcoded),
            ("connected", self.connections),
        ]
    }
}
