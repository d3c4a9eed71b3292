"""A headless Chromium that tests use as a reader would: keys, what is on the page, pictures. Speaks the DevTools protocol over a pipe, so that it needs no port.

Owns the browser's process and folder; what must be seen, the tests say.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

PROGRAM = os.environ.get("EVENKEEL_CHROMIUM", "chromium")
# A machine with other things to do takes its time.
ANSWER_S = 60
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32, "ArrowDown": 40}


def why_not():
    """Why there can be none here, or None."""
    return None if shutil.which(PROGRAM) else f"no {PROGRAM} (Debian: apt-get install chromium)"


class Chromium:
    """One page of a browser of its own."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="evenkeel-chromium-")
        theirs_in, self.write = os.pipe()
        self.read, theirs_out = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "-", PROGRAM, *options,
             "--remote-debugging-pipe", f"--user-data-dir={self.folder}", "about:blank"],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer, self.number, self.session = b"", 0, None
        # What it asked the reader, and whether he says yes.
        self.questions, self.accept = [], True
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.write)
        os.close(self.read)
        shutil.rmtree(self.folder, ignore_errors=True)

    def send(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters, **({"sessionId": self.session} if self.session else {})}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        return self.number

    def message(self, until):
        while b"\0" not in self.buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.read], [], [], left)[0]:
                raise TimeoutError(f"Chromium did not answer within {ANSWER_S} s")
            part = os.read(self.read, 1 << 16)
            if not part:
                raise EOFError("Chromium has ended")
            self.buffer += part
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        number, until = self.send(method, **parameters), time.monotonic() + ANSWER_S
        while True:
            message = self.message(until)
            if message.get("method") == "Page.javascriptDialogOpening":
                self.questions.append(message["params"]["message"])
                self.send("Page.handleJavaScriptDialog", accept=self.accept)
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def open(self, url):
        self.call("Page.navigate", url=url)

    def js(self, expression):
        """What an expression is, as JSON; promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def press(self, key, shift=False):
        code = {"windowsVirtualKeyCode": KEYS[key], "key": " " if key == "Space" else key, "code": key, "modifiers": 8 if shift else 0}
        text = {"Enter": "\r", "Space": " "}.get(key)
        self.call("Input.dispatchKeyEvent", type="keyDown", **code, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def window(self, width, height, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def photograph(self, file):
        """The whole page, as a PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(file, "wb") as out:
            out.write(base64.b64decode(data))
