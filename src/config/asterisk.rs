//! An Asterisk that is spoken to over ARI.

use crate::config::secret::Secret;

/// One `[[asterisk]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsteriskConfig {
    /// What it is called in logs and metrics.
    pub name: String,
    /// Where its HTTP server is, without a slash at the end: `http://127.0.0.1:8088`.
    pub url: String,
    /// A user of its `ari.conf`.
    pub user: String,
    /// That user's password.
    pub password: Secret,
    /// What the dialplan calls us: `Stasis(APP,…)`.
    pub app: String,
    /// What it calls other nodes, whose callers are taken over when they fall silent.
    pub take_over: Vec<String>,
    /// How requests reach it.
    pub rest: RestWay,
    /// Contexts of its dialplan that participants may be sent on into.
    pub leave_to: Vec<String>,
}

/// How requests reach an Asterisk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestWay {
    /// Over the websocket where it takes them there, else over HTTP.
    #[default]
    Auto,
    /// Over the websocket: Asterisk 20.14, 21.9, 22.4 or later.
    Websocket,
    /// Over HTTP.
    Http,
}

impl RestWay {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "websocket" => Ok(Self::Websocket),
            "http" => Ok(Self::Http),
            _ => Err("must be \"auto\", \"websocket\" or \"http\"".to_owned()),
        }
    }
}

impl AsteriskConfig {
    /// Where its websocket is. Holds no password.
    #[must_use]
    pub fn websocket_url(&self) -> String {
        // `http` becomes `ws`, `https` becomes `wss`.
        let rest = self.url.strip_prefix("http").unwrap_or(&self.url);
        format!("ws{rest}/ari/events?app={}&subscribeAll=false", self.app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_websocket_lies_beside_the_rest() {
        let at = |url: &str| {
            AsteriskConfig {
                name: "pbx".to_owned(),
                url: url.to_owned(),
                user: "u".to_owned(),
                password: Secret::new("canary"),
                app: "voicebridge-a".to_owned(),
                take_over: Vec::new(),
                rest: RestWay::Auto,
                leave_to: Vec::new(),
            }
            .websocket_url()
        };
        assert_eq!(
            at("http://127.0.0.1:8088"),
            "ws://127.0.0.1:8088/ari/events?app=voicebridge-a&subscribeAll=false"
        );
        assert_eq!(
            at("https://pbx.example.org/asterisk"),
            "wss://pbx.example.org/asterisk/ari/events?app=voicebridge-a&subscribeAll=false"
        );
    }
}
