//! Systems next to voicebridge ask it for PINs and dialplans, and callers really get in by them.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::server::Server;
use crate::sipp::Scenario;

const PASSWORD: &str = "a-secret-of-the-tests";

fn config() -> String {
    format!(
        "fsapi.password = \"{PASSWORD}\"\nfsapi.bridge_to = \"127.0.0.1\"\n\
         [[jitsi]]\norganisation = \"test\"\ndomains = [\"muc.meet.example.org\"]\n\
         [[number]]\nnumber = \"+390612300\"\nlanguage = \"it\"\ncountry = \"IT\"\norganisation = \"test\"\n\
         [[number]]\nnumber = \"+390612301\"\nlanguage = \"it\"\norganisation = \"somebody else\"\n"
    )
}

/// As a browser in a Jitsi Meet asks.
fn jitsi(server: &Server, path: &str) -> Value {
    let url = format!("http://127.0.0.1:{}/jitsi/test/{path}", server.http_port);
    let mut answer = ureq::get(url).call().expect("answered");
    answer.body_mut().read_json().expect("JSON")
}

/// A FreeSWITCH that is set up as Scalelite's documentation says: it knows the actions it was told and nothing
/// of who told it.
struct Gateway<'a> {
    server: &'a Server,
    variables: Vec<(String, String)>,
}

impl Gateway<'_> {
    /// What is to be done with a call to this destination: applications with their data.
    fn ask(&self, destination: &str) -> Vec<(String, String)> {
        let login = base64::engine::general_purpose::STANDARD.encode(format!("fsapi:{PASSWORD}"));
        let mut form = vec![
            ("section".to_owned(), "dialplan".to_owned()),
            (
                "Caller-Destination-Number".to_owned(),
                destination.to_owned(),
            ),
            (
                "Caller-Caller-ID-Number".to_owned(),
                "0612345678".to_owned(),
            ),
            ("Caller-Caller-ID-Name".to_owned(), "0612345678".to_owned()),
        ];
        let variables = self.variables.iter();
        form.extend(variables.map(|(name, value)| (format!("variable_{name}"), value.clone())));
        let url = format!("http://127.0.0.1:{}/fsapi", self.server.http_port);
        let mut answer = ureq::post(url)
            .header("Authorization", format!("Basic {login}"))
            .send_form(form)
            .expect("answered");
        let document = answer.body_mut().read_to_string().expect("text");
        let attribute = |action: &str, name: &str| {
            let (_, rest) = action.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let actions = document.split("<action ").skip(1);
        actions
            .filter_map(|action| {
                let data = attribute(action, "data").unwrap_or_default();
                Some((attribute(action, "application")?, data))
            })
            .collect()
    }

    /// The first call, in which the caller keys in `pin`; what is to be done with it then.
    fn call(&mut self, number: &str, pin: &str) -> Vec<(String, String)> {
        let first = self.ask(number);
        for (application, data) in &first {
            if application == "set"
                && let Some((name, value)) = data.split_once('=')
            {
                self.variables.push((name.to_owned(), value.to_owned()));
            }
        }
        let asks = first.iter().find(|(name, _)| name == "play_and_get_digits");
        let (_, asks) = asks.expect("the PIN is asked for");
        let words: Vec<&str> = asks.split(' ').collect();
        let lengths = words[0].parse().expect("a number")..=words[1].parse().expect("a number");
        assert!(lengths.contains(&pin.len()), "{asks}");
        assert_eq!((words[4], words[7], words[8]), ("#", "pin", "\\d+"));
        self.variables.push(("pin".to_owned(), pin.to_owned()));
        self.ask(pin)
    }
}

/// A call by a gateway, which is told where to and with what; the meeting that was reached.
fn by_gateway(server: &Server, number: &str, pin: &str) -> String {
    let mut gateway = Gateway {
        server,
        variables: Vec::new(),
    };
    let actions = gateway.call(number, pin);
    let data = |name: &str| {
        let found = actions.iter().find(|(application, _)| application == name);
        found
            .map(|(_, data)| data.as_str())
            .unwrap_or_else(|| panic!("no {name}"))
    };
    let to = data("bridge")
        .strip_prefix("sofia/external/")
        .expect("by SIP");
    let (user, host) = to.split_once('@').expect("a user");
    let header = data("export").strip_prefix("nolocal:sip_h_X-Conf-PIN=");
    assert_eq!(host, "127.0.0.1");
    let known = server.calls().len();
    Scenario::new("uac-pin-in-header")
        .number(user)
        .key("pin", header.expect("a PIN"))
        .run(server);
    let record = server.call_after(known);
    assert_eq!(record["outcome"], "joined");
    let id = record["meeting_id"].as_str().expect("a meeting");
    let told = actions
        .iter()
        .any(|(_, data)| *data == format!("meeting_id={id}"));
    assert!(told, "the gateway knows which meeting it is");
    id.to_owned()
}

#[test]
fn meetings_of_the_api_and_of_a_jitsi_meet_are_dialled_and_a_gateway_made_for_scalelite_knows_them()
{
    let server = Server::start(&config());
    let booked = server.book(&json!({}));
    let conference = "conferenceMapper?conference=Standup@muc.meet.example.org";
    let mapped = jitsi(&server, conference);
    let mapped = mapped["id"].as_u64().expect("a PIN").to_string();
    server.remember(&[&mapped]);
    assert_ne!(mapped, booked.guest);
    let numbers = jitsi(&server, "phoneNumberList");
    assert_eq!(
        numbers,
        json!([{"countryCode": "IT", "tollFree": false, "formattedNumber": "+390612300"}])
    );
    let number = "+390612300";
    let mut meetings = Vec::new();
    for pin in [&booked.guest, &mapped] {
        // By a telephone.
        let known = server.calls().len();
        Scenario::new("uac-right-pin")
            .number(number)
            .key("pin", pin)
            .run(&server);
        let record = server.call_after(known);
        assert_eq!(
            (&record["outcome"], &record["number"]),
            (&json!("joined"), &json!(number))
        );
        let bridged = by_gateway(&server, number, pin);
        let id = record["meeting_id"].as_str().expect("a meeting");
        assert_eq!(bridged, id);
        meetings.push(id.to_owned());
    }
    assert_eq!(meetings[0], booked.id);
    assert_ne!(meetings[0], meetings[1]);

    let wrong = if mapped == "4815162342" {
        "4815162343"
    } else {
        "4815162342"
    };
    let actions = Gateway {
        server: &server,
        variables: Vec::new(),
    }
    .call(number, wrong);
    let told: Vec<&str> = actions.iter().map(|(_, data)| data.as_str()).collect();
    assert_eq!(
        told.get(..2),
        Some(&["voicebridge_wrong_pins=1", "conference/conf-bad-pin.wav"][..])
    );
    // The mapper is asked back, by the machine that answers the phone.
    let back = jitsi(&server, &format!("conferenceMapper?id={mapped}"));
    assert_eq!(back["conference"], "standup@muc.meet.example.org");
}
