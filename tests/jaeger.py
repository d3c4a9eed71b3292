"""What Jaeger's pages know of a deployment's traces, as JSON. Owns how they are asked; what must be there, the tests say."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request


class Trace:
    def __init__(self, spans, processes):
        self.spans, self.processes = spans, processes

    def service(self, span):
        tags = {tag["key"]: tag["value"] for tag in self.processes[span["processID"]]["tags"]}
        return tags["service.instance.id"]

    def parent(self, span):
        return next((ref["spanID"] for ref in span["references"] or [] if ref["refType"] == "CHILD_OF"), None)

    def named(self, name, within=None):
        """Spans of that name, of one parent if it is given."""
        found = [span for span in self.spans if re.fullmatch(name, span["operationName"])]
        return [span for span in found if within is None or self.parent(span) == within["spanID"]]

    def one(self, name, within=None):
        (span,) = self.named(name, within)
        return span

    def tags(self, span):
        return {tag["key"]: tag["value"] for tag in span["tags"]}


def fetch(pages, trace_id):
    """The trace as it is by now; None if there is none."""
    try:
        with urllib.request.urlopen(f"{pages}/api/traces/{trace_id}", timeout=60) as answer:
            data = json.load(answer)["data"][0]
    except urllib.error.HTTPError as error:
        assert error.code == 404
        return None
    return Trace(data["spans"], data["processes"])


def links(span):
    """The traces that it came about because of."""
    return [ref["traceID"].rjust(32, "0") for ref in span["references"] or [] if ref["refType"] == "FOLLOWS_FROM"]


def flow(pages, service, name, cause=None, **tags):
    """The newest trace of a background flow with these tags (dots as underscores), linked to trace `cause` if that is given; None if there is none yet."""
    return next(flows(pages, service, name, cause, **tags), None)


def flows(pages, service, name, cause=None, **tags):
    """All of them, the newest first."""
    query = urllib.parse.urlencode({"service": service, "operation": name, "limit": 100})
    with urllib.request.urlopen(f"{pages}/api/traces?{query}", timeout=60) as answer:
        found = json.load(answer)["data"] or []
    for data in found:
        trace = Trace(data["spans"], data["processes"])
        for span in trace.named(name):
            told = {key.replace(".", "_"): value for key, value in trace.tags(span).items()}
            if tags.items() <= told.items() and cause in (None, *links(span)):
                yield trace


def trace_of(request_id):
    """Its first 26 characters are the trace's id, five bits each."""
    return f"{int(request_id[:26], 32):032x}"
