"""A proxy in front of an S3-compatible store that does what stores do wrong, when it is told to. Owns the faults; knows nothing of what is stored."""

import http.client
import http.server
import threading

import harness


class Faults:
    """Forwards everything to `endpoint` (`http://host:port`), unless `fault` says otherwise:

    `down`: the connection is closed without an answer · `error`: 500, and nothing happens · `lost`: it happens, and the answer is 500 ·
    `hang`: no answer until the fault is over · `truncate`: half of each body that is read · `lie`: a conditional write that was refused is
    called a success.
    """

    def __init__(self, endpoint):
        self.target = endpoint.removeprefix("http://")
        self.fault = None
        self.struck = {}
        self.over = threading.Condition()
        faults = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_any(self):
                faults.handle(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", harness.free_port()), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def set(self, fault):
        with self.over:
            self.fault = fault
            self.over.notify_all()

    def strike(self, fault):
        self.struck[fault] = self.struck.get(fault, 0) + 1

    def wait_for(self, fault, times, timeout_s=60):
        """Lets a fault strike so often, then ends it."""
        before = self.struck.get(fault, 0)
        self.set(fault)
        harness.wait_until(
            f"{times} operations met {fault}", lambda: self.struck.get(fault, 0) >= before + times, timeout_s
        )
        self.set(None)

    def handle(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self.fault
        if fault == "down":
            self.strike(fault)
            request.close_connection = True
            return
        if fault == "hang":
            self.strike(fault)
            with self.over:
                self.over.wait_for(lambda: self.fault != "hang", timeout=120)
            request.close_connection = True
            return
        if fault == "error":
            self.strike(fault)
            return self.answer(request, 500, {}, b"")
        status, headers, answer = self.forward(request, body)
        if fault == "lost":
            self.strike(fault)
            return self.answer(request, 500, {}, b"")
        if fault == "truncate" and request.command == "GET" and status == 200 and len(answer) > 1 and "list-type" not in request.path:
            self.strike(fault)
            answer = answer[: len(answer) // 2]
        if fault == "lie" and request.command == "PUT" and status == 412:
            self.strike(fault)
            status, headers, answer = 200, {"ETag": '"0"'}, b""
        self.answer(request, status, headers, answer)

    def forward(self, request, body):
        connection = http.client.HTTPConnection(self.target, timeout=60)
        try:
            connection.request(request.command, request.path, body=body, headers=dict(request.headers.items()))
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except OSError:
            return 503, {}, b""
        finally:
            connection.close()

    @staticmethod
    def answer(request, status, headers, body):
        try:
            request.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    request.send_header(name, value)
            length = headers.get("Content-Length", "0") if request.command == "HEAD" else str(len(body))
            request.send_header("Content-Length", length)
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(body)
        except OSError:  # the client has given up
            request.close_connection = True

    def close(self):
        self.set(None)
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
