# SPDX-License-Identifier: Apache-2.0
"""The program of the sample images gcr.io/cloudrun/hello and .../job: a page that says where it runs, a task that ends.

It runs as a process of its own and imports nothing of the sandbox.
"""

import html
import http.server
import os
import signal
import sys

PAGE = """<!doctype html>
<title>{service}</title>
<h1>It's running!</h1>
<p>Revision <code>{revision}</code> of the Cloud Run service <code>{service}</code>, in the sandbox.</p>
"""


class Hello(http.server.BaseHTTPRequestHandler):
    """Answers every GET and POST with the page."""

    protocol_version = "HTTP/1.1"
    # Head and body are two writes: with Nagle's algorithm the second waits 40 ms for the client's delayed ACK.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        names = {"service": os.environ.get("K_SERVICE", "hello"), "revision": os.environ.get("K_REVISION", "none")}
        body = PAGE.format(**{name: html.escape(value) for name, value in names.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET


def main(command: str) -> int:
    """`serve` listens on $PORT of 127.0.0.1 until SIGTERM; `job` says which task it is and ends."""
    if command == "job":
        index, count = os.environ.get("CLOUD_RUN_TASK_INDEX", "0"), os.environ.get("CLOUD_RUN_TASK_COUNT", "1")
        print(f"Completed task #{index} of {count}.", flush=True)
        return 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Hello)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"Hello from Cloud Run! Listening on port {server.server_address[1]}.", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
