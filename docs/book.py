"""Books a meeting, shows what to dial, and moves it: python3 book.py https://voice.example.org KEY"""

import sys

from voicebridge import Client, Problem

voicebridge = Client(sys.argv[1], sys.argv[2])
try:
    meeting = voicebridge.createMeeting(
        title="Jour fixe", starts_at="2035-11-23T10:00:00+01:00", ends_at="2035-11-23T11:00:00+01:00", timezone="Europe/Rome",
        external_id="booking/4711", recurrence={"rule": "FREQ=WEEKLY;COUNT=10"}, wait_for_host=True)
    print("PIN:", meeting["pins"]["guest"], "host:", meeting["pins"]["host"])
    print(voicebridge.readInvitation(id=meeting["id"], language="it", format="text"))
    second = voicebridge.listOccurrences(id=meeting["id"], from_="2035-11-24T00:00:00Z", to="2035-12-31T00:00:00Z")["items"][0]
    voicebridge.cancelOccurrence(id=meeting["id"], recurrence_id=second["recurrence_id"])
    voicebridge.changeMeeting(id=meeting["id"], title="Jour fixe, in the large room")
    print([booked["title"] for booked in voicebridge.pages("listMeetings", limit=1)])
except Problem as problem:
    sys.exit(f"{problem.code}: {problem.detail} {problem.errors}")
