//! Who calls whom, as far as it is believed.

use crate::booking::{CallerNumber, Pin, Verstat};
use crate::sip::address::{NameAddr, Scheme, Target};
use crate::sip::message::Request;

/// The number that was dialled at first, where the call was sent on to another one: the first of History-Info
/// (RFC 7044 section 4), else the last of Diversion, which has the newest on top (RFC 5806 section 6).
pub(super) fn diverted_from(request: &Request) -> Option<String> {
    let headers = &request.headers;
    let first = headers.list("History-Info").take(DIVERSIONS_MAX).next();
    let first = first.or_else(|| headers.list("Diversion").take(DIVERSIONS_MAX).last());
    user_of(&NameAddr::parse(first?)?.uri)
}

/// His number, or all that tells of him, is not to be shown.
fn wants_privacy(request: &Request) -> bool {
    let mut wishes = request
        .headers
        .all("Privacy")
        .flat_map(|all| all.split([';', ',']));
    wishes.any(|wish| {
        let wish = wish.trim();
        ["id", "user", "header"]
            .iter()
            .any(|meant| wish.eq_ignore_ascii_case(meant))
    })
}

pub(super) fn pin_of(request: &Request, target: &Target) -> Option<Pin> {
    let digits = target
        .param("pin")
        .or_else(|| request.headers.first("X-Conf-PIN").map(ToOwned::to_owned))?;
    Pin::parse(digits.trim()).ok()
}

/// The dialled number: the user of the request URI, unless that is what a registrar calls us by, whoever
/// is dialled; then it stands in To.
pub(super) fn number_of(request: &Request, target: &Target, contact_user: Option<&str>) -> String {
    let is_contact = contact_user.is_some_and(|user| user == target.user);
    match Target::parse(&request.to.uri) {
        Ok(to) if is_contact && !to.user.is_empty() => to.user,
        Ok(_) | Err(_) => target.user.clone(),
    }
}

/// Who calls: as From says, or as the network asserts where it is believed. RFC 3325 section 9.1 allows
/// two identities, a SIP and a tel URI: the one that names a number is taken. Who doesn't want to be known isn't
/// (RFC 3323 section 4.2), whatever else is said of him.
pub(super) fn caller_of(request: &Request, trusts_identity: bool) -> CallerNumber {
    if wants_privacy(request) {
        return CallerNumber::new("anonymous");
    }
    let asserted = || {
        let identities = request.headers.list("P-Asserted-Identity").take(2);
        let users = identities.filter_map(|value| user_of(&NameAddr::parse(value)?.uri));
        users.reduce(|one, other| if is_number(&one) { one } else { other })
    };
    let caller = if trusts_identity { asserted() } else { None };
    let caller = caller.or_else(|| user_of(&request.from.uri));
    CallerNumber::new(&caller.unwrap_or_default())
}

/// Whether the network has found that the caller may use his number: said beside that, of the asserted identity first
/// (3GPP TS 24.229 section 7.2A.20 puts it into the number; some put it behind the URI).
pub(super) fn verstat_of(request: &Request) -> Option<Verstat> {
    let asserted = request.headers.list("P-Asserted-Identity").take(2);
    let asserted = asserted.filter_map(NameAddr::parse);
    let from = request.headers.first("From").and_then(NameAddr::parse);
    asserted.chain(from).find_map(|identity| {
        let target = Target::parse(&identity.uri).ok();
        let within = target.and_then(|target| target.param("verstat"));
        let behind = || identity.param("verstat").map(ToOwned::to_owned);
        Verstat::parse(&within.or_else(behind)?)
    })
}

fn user_of(uri: &str) -> Option<String> {
    let target = Target::parse(uri).ok()?;
    (target.scheme != Scheme::Urn && !target.user.is_empty()).then_some(target.user)
}

fn is_number(user: &str) -> bool {
    let digits = user.strip_prefix('+').unwrap_or(user);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Nobody is sent on more often.
const DIVERSIONS_MAX: usize = 20;
