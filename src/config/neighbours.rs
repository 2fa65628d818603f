//! Systems next to voicebridge that ask it in words of their own: Jitsi Meet, and dial-in gateways made for
//! Scalelite.

use crate::config::secret::Secret;

/// One `[[jitsi]]`: a Jitsi Meet whose conferences can be dialled into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JitsiConfig {
    /// Whose meetings its conferences become.
    pub organisation: String,
    /// What stands behind the `@` of its conferences, in lower case; never empty.
    pub domains: Vec<String>,
    /// How it wants to be told numbers.
    pub number_form: NumberForm,
}

/// How a Jitsi Meet wants to be told numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NumberForm {
    /// A list of objects; what Jitsi Meet asks for today.
    #[default]
    List,
    /// An object by country, which it took before.
    Countries,
}

/// `[fsapi]`: a FreeSWITCH in front asks what to do with calls, as it would ask a Scalelite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsapiConfig {
    /// The password of its user `fsapi`.
    pub password: Secret,
    /// Where it bridges calls to: this node's host, and port, for SIP.
    pub bridge_to: String,
}
