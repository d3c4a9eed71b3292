"""The console's page and its JSON, served by an admin of either kind of deployment."""

import json
import re
import urllib.error
import urllib.request

import pytest

import chromium
import harness


@pytest.fixture(scope="module")
def console(endpoint):
    """Address of the console, and the operator's token."""
    if endpoint.kind == "dev":
        return re.search(r"console\s+(http://\S+)/console \(to sign in: (\w+)\)", endpoint.output()).groups()
    port = next(p["health_port"] for p in endpoint.status()["processes"] if p["name"] == "admin")
    return f"http://127.0.0.1:{port}", "evenkeel"


def state(console):
    return json.loads(harness.http_get(f"{console[0]}/console/api/state"))


def post(console, path, body=None, token=None):
    """Status and message."""
    request = urllib.request.Request(
        f"{console[0]}/console/api/{path}",
        data=json.dumps(body or {}).encode(),
        headers={"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"{}").get("message", "")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["message"]


def test_the_page_needs_nothing_from_elsewhere(console):
    files = {}
    for path, kind in (("", "text/html"), ("/console.js", "text/javascript"), ("/console.css", "text/css")):
        with urllib.request.urlopen(f"{console[0]}/console{path}", timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith(kind)
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
            files[path] = answer.read().decode()
    for text in files.values():
        urls = re.findall(r"https?://[\w.]+", text)
        assert set(urls) <= {"http://www.w3.org"}, urls
    # No script or style within the page: the policy would refuse it.
    assert not re.search(r"<script>|<style|\son\w+=|\sstyle=", files[""])


def test_the_state_shows_zones_tables_and_partitions(console, ddb, simple, endpoint):
    ddb.put_item(TableName=simple, Item={"pk": {"S": "seen in the console"}})

    def shown():
        now = state(console)
        names = [table["name"] for table in now["tables"]]
        services = {service["service"] for service in now["services"] if service["state"] == "ready"}
        heard = services >= {"router", "storage", "memds", "gac", "admin", "archiver", "scrubber"}
        return simple in names and heard and now["health"] and len(now["health"]["nodes"]) >= 3 and now

    now = harness.wait_until("the table and all services are in the console", shown, timeout_s=60)
    assert {node["zone"] for node in now["health"]["nodes"]} == {"az1", "az2", "az3"}
    assert now["read_only"] is False and f'"{console[1]}"' not in json.dumps(now)
    url = f"{console[0]}/console/api/partitions?table={simple}"

    def led():
        partitions = json.loads(harness.http_get(url))["partitions"]
        return all(p["leader"] and len(p["replicas"]) == 3 for p in partitions) and partitions

    partitions = harness.wait_until("all its partitions are led", led)
    ranges = sorted((p["start"], p["end"]) for p in partitions)
    assert ranges[0][0] == "" and [end for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]], ranges


def test_a_request_id_that_is_none_has_no_link(console):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{console[0]}/console/api/trace?request_id=ABC", timeout=60)
    # Nobody traces here.
    assert refused.value.code == 404 and "trace_url" in json.loads(refused.value.read())["message"]


def test_only_the_operator_gives_orders(console):
    assert post(console, "session")[0] == 401
    assert post(console, "session", token="guessed")[0] == 401
    assert post(console, "session", token=console[1]) == (204, "")
    assert post(console, "drain", {"node": 1})[0] == 401
    assert post(console, "scrub")[0] == 401
    # While another admin takes over, nobody knows.
    order = lambda path, **body: post(console, path, body, token=console[1])
    harness.wait_until("nobody is drained", lambda: order("drain", node=4711) == (409, "there is no storage node 4711"))

    def is_refused():
        status, message = order("transfer-leader", partition=1, node=4711)
        return status == 409 and "4711" in message

    harness.wait_until("nobody leads instead", is_refused)
    harness.wait_until("the scrubber answers", lambda: order("scrub", table="no-such-table")[0] == 200)
    # What is no order at all.
    request = urllib.request.Request(f"{console[0]}/console/api/drain", data=b"x" * 5000, headers={"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert refused.value.code in (400, 413)


FOCUS = "(document.activeElement.id || document.activeElement.className || document.activeElement.textContent)"


def tab_to(page, name):
    """Presses Tab until that has the focus; what had it on the way, each seen to be marked."""
    passed = []
    for _ in range(300):
        page.press("Tab")
        if page.js("document.activeElement === document.body"):
            # What had it is not there any more.
            continue
        passed.append(page.js(FOCUS))
        outline = page.js("(({ outlineStyle, outlineWidth }) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))")
        assert outline == ["solid", "3px"], f"{passed[-1]} has the focus, and nobody sees it: {outline}"
        if passed[-1] == name:
            return passed
    raise AssertionError(f"{name} is not reached by Tab, only {passed}")


@pytest.mark.one_kind
@pytest.mark.skipif(chromium.why_not() is not None, reason=str(chromium.why_not()))
def test_the_keyboard_is_enough(console, ddb, simple):
    ddb.put_item(TableName=simple, Item={"pk": {"S": "reached by keyboard"}})
    with chromium.Chromium() as page:
        page.window(1280, 900)
        page.open(f"{console[0]}/console")
        has = lambda what, expression, **options: harness.wait_until(what, lambda: page.js(f"!!({expression})"), timeout_s=60, **options)
        has("the table is shown", f"document.getElementById('table-{simple}')")

        def redrawn():
            before = page.js("state.now_ms")
            has("the page is drawn anew", f"state.now_ms > {before}")

        # Past what is on every page, and back.
        assert tab_to(page, "skip") == ["skip"] and page.js("document.activeElement.getBoundingClientRect().left >= 0")
        page.press("Enter")
        has("the content has the focus", f"{FOCUS} === 'main'")
        page.press("Tab", shift=True)
        assert page.js("document.activeElement.textContent") == "Alarms"

        # Sign in, and give an order.
        page.open(f"{console[0]}/console")
        has("the table is shown again", f"document.getElementById('table-{simple}')")
        assert tab_to(page, "token")[:1] == ["skip"]
        page.type("guessed")
        page.press("Enter")
        has("a wrong token is refused", "/token/.test(document.getElementById('signed').textContent) && !token")
        page.type(console[1])
        page.press("Enter")
        has("signed in", "/signed in/.test(document.getElementById('signed').textContent) && document.getElementById('drain-1')")
        passed = tab_to(page, "drain-1")
        assert passed[1:8] == ["Zones", "Progress", "Availability", "Tables", "Partitions", "Throughput", "Alarms"], passed
        # The page is drawn anew all the time; the focus stays.
        redrawn()
        assert page.js(FOCUS) == "drain-1"
        # An order that can do harm asks first; Escape says no.
        page.accept = False
        page.press("Enter")
        assert page.questions == ["Move everything off node 1, for good?"]
        assert page.js(FOCUS) == "drain-1" and page.js("document.getElementById('said').textContent") == ""

        def scrubbed():
            # The button is there while the scrubber answers.
            page.js("document.getElementById('scrub-all').focus()")
            page.press("Space")
            return page.js("document.getElementById('said').textContent")

        harness.wait_until("an order is given and answered", scrubbed, timeout_s=60, every_s=0.5)
        page.press("Escape")
        assert page.js("document.getElementById('said').textContent") == ""

        # Lists close and stay closed; a table's partitions are a key away.
        strips = "strips-Ascustomersseeit"
        tab_to(page, f"{strips}-title")
        page.press("Escape")
        redrawn()
        assert page.js(f"document.getElementById('{strips}').open") is False and page.js(FOCUS) == f"{strips}-title"
        page.press("Enter")
        assert page.js(f"document.getElementById('{strips}').open") is True
        tab_to(page, f"table-{simple}")
        redrawn()
        assert page.js(FOCUS) == f"table-{simple}"
        page.press("Enter")
        has("its partitions are shown", f"ofTable && ofTable.table === '{simple}' && ofTable.partitions.length")
        has("the partitions have the focus", f"{FOCUS} === 'partitions'")
        page.press("Tab")
        assert page.js(FOCUS) == "of-table"
        passed = tab_to(page, next_leader(page))
        assert not set(passed) & {"token", "drain-1"}, passed

        # Nothing is cut off in a narrow window, by day or by night.
        for dark in (False, True):
            page.window(400, 800, dark)
            has("the page fits", "document.documentElement.scrollWidth <= 400")


def next_leader(page):
    """The first button of the partitions that are shown."""
    harness.wait_until("there is one", lambda: page.js("!!document.querySelector('#partition-list button')"), timeout_s=60)
    return page.js("document.querySelector('#partition-list button').id")
