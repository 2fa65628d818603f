//! The Python client that ships, against the built program: its example as it stands, and what it makes of errors.

use std::path::Path;
use std::process::{Command, Output};

use crate::server::Server;

fn python(server: &Server, script: &[&str]) -> Output {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let run = Command::new("python3")
        .current_dir(docs)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(script)
        .args([
            &format!("http://127.0.0.1:{}", server.http_port),
            &server.key,
        ])
        .output();
    run.expect("python3 is there; scripts/install-test-deps installs it")
}

fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_booking_example_books_moves_and_cancels_as_it_says() {
    let server = Server::start("[[number]]\nnumber = \"+390612300\"\nlanguage = \"it\"\n");
    let example = include_str!("../../docs/book.py");
    let lines = example.lines().filter(|line| !line.trim().is_empty());
    assert!(lines.count() <= 20, "a 20-line example");
    let text = said(&python(&server, &["book.py"]));
    let booked = server.get("/v1/meetings/by-external-id/booking%2F4711");
    assert_eq!(booked["title"], "Jour fixe, in the large room");
    let pin = booked["pins"]["guest"].as_str().expect("a PIN");
    server.remember(&[pin, booked["pins"]["host"].as_str().expect("a PIN")]);
    assert!(text.contains(&format!("PIN: {pin} host: ")), "{text}");
    assert!(text.contains("+390612300"), "the invitation: {text}");
    assert!(text.contains("['Jour fixe, in the large room']"), "{text}");
    let id = booked["id"].as_str().expect("an id");
    let period = "from=2035-11-01T00:00:00Z&to=2036-03-01T00:00:00Z";
    let occurrences = server.get(&format!("/v1/meetings/{id}/occurrences?{period}"));
    let states = occurrences["items"].as_array().expect("a list").iter();
    let cancelled = states.filter(|occurrence| occurrence["state"] == "cancelled");
    assert_eq!(cancelled.count(), 1, "{occurrences}");
    // Once more it finds its booking there, and says why it can't be made.
    let again = python(&server, &["book.py"]);
    assert!(!again.status.success());
    let why = String::from_utf8_lossy(&again.stderr);
    assert!(why.starts_with("external_id_taken: "), "{why}");
}

#[test]
fn the_client_has_every_operation_pages_through_lists_and_tells_what_is_wrong() {
    let server = Server::start("");
    let script = r#"
import sys
from voicebridge import Client, Problem
client = Client(sys.argv[1], sys.argv[2])
assert len(client.operations) >= 60, len(client.operations)
for n in range(5):
    client.putMeetingByExternalId(external_id=f"a/b {n}", title=f"è {n}", starts_at="2035-11-23T10:00:00+01:00", ends_at=None, timezone="Europe/Rome")
titles = [m["title"] for m in client.pages("listMeetings", limit=2)]
assert sorted(titles) == [f"è {n}" for n in range(5)], titles
one = client.readMeetingByExternalId(external_id="a/b 1")
try:
    client.changeMeeting(id=one["id"], title="x", if_match='"77"')
    sys.exit("If-Match was not sent")
except Problem as problem:
    assert (problem.status, problem.code) == (412, "changed"), problem
try:
    client.createMeeting(title=7)
    sys.exit("no error")
except Problem as problem:
    assert problem.code == "invalid" and "title" in [e["field"] for e in problem.errors], problem.errors
assert client.cancelMeeting(id=one["id"]) is None
for wrong in (lambda: client.readMeeting(), lambda: client.readMeeting(id="1", colour="red")):
    try:
        wrong()
        sys.exit("no error")
    except TypeError:
        pass
print("done")
"#;
    let text = said(&python(&server, &["-c", script]));
    assert_eq!(text.trim(), "done");
}
