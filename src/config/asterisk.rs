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
    /// How it calls people; `None`: it doesn't.
    pub dial: Option<DialTemplate>,
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

/// What an Asterisk dials to reach a number: `PJSIP/{number}@carrier`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialTemplate {
    before: String,
    after: String,
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

impl DialTemplate {
    /// Reads one. The number may only be where it can be nothing but a number: what is dialled before `@`, or at
    /// the end behind a peer's name.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = || {
            "must have {number} once, as in \"PJSIP/{number}@carrier\" or \"Local/{number}@voicebridge-out\": behind a technology's name, and before the endpoint or context that it is dialled by".to_owned()
        };
        let (before, after) = text.split_once(NUMBER).ok_or_else(allowed)?;
        let (technology, resource) = before.split_once('/').ok_or_else(allowed)?;
        let plain = |part: &str| {
            part.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:/@;=".contains(&b))
        };
        let has_name = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric());
        let is_by_peer = has_name(resource) && resource.ends_with(['/', ':']);
        let stands_well = match after.strip_prefix('@') {
            Some(by) => has_name(by) && (resource.is_empty() || is_by_peer),
            None => after.is_empty() && is_by_peer,
        };
        let is_name =
            !technology.is_empty() && technology.bytes().all(|b| b.is_ascii_alphanumeric());
        if !(is_name && stands_well && plain(before) && plain(after)) {
            return Err(allowed());
        }
        // Asterisk would else take the channel in the middle out of the call, and that is the one that we know.
        let keeps = if technology == "Local" && !after.contains('/') {
            "/n"
        } else {
            ""
        };
        Ok(Self {
            before: before.to_owned(),
            after: format!("{after}{keeps}"),
        })
    }

    /// What is dialled to reach `number`, which holds digits and perhaps a `+` in front.
    #[must_use]
    pub fn of(&self, number: &str) -> String {
        format!("{}{number}{}", self.before, self.after)
    }

    /// The endpoint of pjsip.conf that it dials by, if that is what it does.
    #[must_use]
    pub fn pjsip_endpoint(&self) -> Option<&str> {
        let resource = self.before.strip_prefix("PJSIP/")?;
        match resource.split_once('/') {
            Some((endpoint, _)) => Some(endpoint),
            None => self.after.strip_prefix('@'),
        }
    }
}

const NUMBER: &str = "{number}";

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
                dial: None,
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

    #[test]
    fn a_number_stays_in_its_place() {
        for (template, dialled, endpoint) in [
            (
                "PJSIP/{number}@carrier",
                "PJSIP/+39061@carrier",
                Some("carrier"),
            ),
            (
                "PJSIP/carrier/sip:{number}@sip.example.org",
                "PJSIP/carrier/sip:+39061@sip.example.org",
                Some("carrier"),
            ),
            (
                "Local/{number}@voicebridge-out",
                "Local/+39061@voicebridge-out/n",
                None,
            ),
            (
                "Local/{number}@voicebridge-out/nj",
                "Local/+39061@voicebridge-out/nj",
                None,
            ),
            ("DAHDI/g1/{number}", "DAHDI/g1/+39061", None),
        ] {
            let read = DialTemplate::parse(template).unwrap();
            assert_eq!(read.of("+39061"), dialled);
            assert_eq!(read.pjsip_endpoint(), endpoint, "{template}");
        }
        for bad in [
            "",
            "{number}",
            "PJSIP/carrier",
            "PJSIP/{number}",
            "{number}/x@carrier",
            "/{number}@carrier",
            "PJSIP/{number}{number}@c",
            "PJSIP/{number}@",
            "PJSIP/0{number}@carrier",
            "PJSIP/{number}0@carrier",
            "PJSIP/@{number}",
            "PJSIP/{number}@c&PJSIP/x",
            "PJSIP/{number}@c,30",
            "Local/s@{number}",
            "Local/{number}@${CONTEXT}",
            "PJ SIP/{number}@c",
            "PJSIP/{number}@/c",
        ] {
            assert!(DialTemplate::parse(bad).is_err(), "{bad}");
        }
    }
}
