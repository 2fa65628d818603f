"""A client of voicebridge's HTTP API, for Python 3.9 and later, with nothing but the standard library.

It reads the node's own OpenAPI document, and has a method for each operation in it, under the operation's name:

    voicebridge = Client("https://voice.example.org", key)
    meeting = voicebridge.createMeeting(title="Jour fixe", starts_at="2026-11-23T10:00:00+01:00", ...)
    voicebridge.cancelMeeting(id=meeting["id"])

What stands in the path or the query, and headers (`If-Match` as `if_match`), are keyword arguments by their names; all
others are fields of the body. `from` is a word of Python's: write `from_`. Errors are raised as `Problem`. Every POST
carries an `Idempotency-Key`, so what is tried again because the node was away is done once.
"""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid


class Problem(Exception):
    """An answer that is an error (RFC 9457): `status`, `code` for programs, `detail` for people, `errors` by field."""

    def __init__(self, status, document):
        super().__init__(f"{status} {document.get('code')}: {document.get('detail')}")
        self.status = status
        self.code = document.get("code")
        self.detail = document.get("detail")
        self.errors = document.get("errors", [])
        self.request_id = document.get("request_id")


class Client:
    """The API of a node, as its OpenAPI document says it is."""

    def __init__(self, url, key, tries=4, timeout=35):
        self.url, self.key, self.tries, self.timeout = url.rstrip("/"), key, tries, timeout
        document = self._ask("GET", "/openapi.json", {}, None)
        self.operations = {}
        for path, item in document["paths"].items():
            for method, operation in item.items():
                named = {p["name"]: p["in"] for p in operation.get("parameters", [])}
                self.operations[operation["operationId"]] = (method.upper(), path, named, "requestBody" in operation)

    def __getattr__(self, name):
        if name.startswith("_") or name not in self.__dict__.get("operations", {}):
            raise AttributeError(f"the API has no operation {name}")
        return lambda **given: self.call(name, **given)

    def call(self, name, **given):
        """Does an operation, and gives the JSON that it is answered with, as text what isn't JSON; None: nothing."""
        method, path, named, has_body = self.operations[name]
        query, headers, body = {}, {}, {}
        for argument, value in given.items():
            plain = argument.rstrip("_")
            header = plain.replace("_", "-").lower()
            place = named.get(plain)
            if place == "path":
                path = path.replace("{%s}" % plain, urllib.parse.quote(str(value), safe=""))
            elif place == "query":
                query[plain] = str(value).lower() if isinstance(value, bool) else value
            elif any(place == "header" and n.lower() == header for n, place in named.items()):
                headers[header] = value
            elif has_body:
                body[plain] = value
            else:
                raise TypeError(f"{name} takes no {argument}")
        if "{" in path:
            raise TypeError(f"{name} needs what stands in {path}")
        if query:
            path += "?" + urllib.parse.urlencode(query)
        if method == "POST":
            headers.setdefault("idempotency-key", str(uuid.uuid4()))
        return self._ask(method, path, headers, body if has_body else None)

    def pages(self, name, **given):
        """The items of a list, however many pages it has."""
        while True:
            page = self.call(name, **given)
            yield from page["items"]
            if not page.get("next"):
                return
            given["cursor"] = page["next"]

    def _ask(self, method, path, headers, body):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            request.add_header(name, str(value))
        for left in reversed(range(self.tries)):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    text = answer.read().decode()
                    is_json = "json" in answer.headers.get("Content-Type", "")
                    return json.loads(text) if is_json else text or None
            except urllib.error.HTTPError as error:
                text = error.read().decode(errors="replace")
                wait = error.headers.get("Retry-After", "")
                if error.code == 503 and wait.isdigit() and int(wait) <= WAIT_MAX and left:
                    time.sleep(int(wait))
                    continue
                is_problem = "json" in error.headers.get("Content-Type", "")
                raise Problem(error.code, json.loads(text) if is_problem else {"detail": text}) from None
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if not left:
                    raise
                time.sleep(1)


# Seconds that are waited before what could not be done now is tried again.
WAIT_MAX = 30
