//! The way by which a registrar wants our calls to go (RFC 3608): routes that the first request of each is given.

use crate::sip::address::{self, NameAddr};
use crate::sip::message::Headers;

/// The routes of a 200 to REGISTER, in the order in which requests pass them. One that routes strictly (no `lr`, which
/// RFC 3608 section 5 rules out), or more than anybody needs: none.
pub(crate) fn service_route(headers: &Headers) -> Vec<String> {
    let routes: Vec<&str> = headers.list("Service-Route").take(ROUTES_MAX + 1).collect();
    let bytes: usize = routes.iter().map(|route| route.len()).sum();
    let are_few = routes.len() <= ROUTES_MAX && bytes <= BYTES_MAX;
    if !are_few || !routes.iter().all(|route| is_loose(route)) {
        return Vec::new();
    }
    routes.into_iter().map(ToOwned::to_owned).collect()
}

fn is_loose(route: &str) -> bool {
    let uri = NameAddr::parse(route).map(|route| route.uri);
    let parameters = uri.as_deref().and_then(|uri| uri.split_once(';'));
    parameters.is_some_and(|(_, parameters)| address::param(parameters, "lr").is_some())
}

const ROUTES_MAX: usize = 8;
const BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::{self, Message};

    fn routes(lines: &[&str]) -> Vec<String> {
        let lines = lines
            .iter()
            .map(|line| format!("Service-Route: {line}\r\n"));
        let message = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:a@b>;tag=2\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n{}Content-Length: 0\r\n\r\n",
            lines.collect::<String>()
        );
        match message::tests::parse(&message) {
            Message::Response(response) => service_route(&response.headers),
            Message::Request(_) | Message::BadResponse => panic!("{message}"),
        }
    }

    #[test]
    fn routes_are_taken_in_their_order_from_one_line_or_several() {
        let both = [
            "<sip:edge.example.org;lr>",
            "<sip:home.example.org;transport=tcp;lr>",
        ];
        assert_eq!(routes(&both), both);
        assert_eq!(routes(&[&both.join(", ")]), both);
    }

    #[test]
    fn what_routes_strictly_or_is_endless_is_not_followed() {
        assert_eq!(routes(&[]), [""; 0]);
        assert_eq!(routes(&["<sip:edge.example.org>"]), [""; 0]);
        assert_eq!(routes(&["<sip:edge.example.org;lr>, nonsense"]), [""; 0]);
        assert_eq!(routes(&["<sip:edge.example.org;lr>"; 9]), [""; 0]);
        let long = format!("<sip:{}.example.org;lr>", "a".repeat(1_100));
        assert_eq!(routes(&[&long]), [""; 0]);
    }
}
