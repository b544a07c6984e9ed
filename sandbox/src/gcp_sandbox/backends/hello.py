# SPDX-License-Identifier: Apache-2.0
"""The program of the sample images gcr.io/cloudrun/hello and .../job: a page that says where it runs, a task that ends.

On Cloud Run the page names service and revision, on App Engine service and version.

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
<p><code>{revision}</code> of the service <code>{service}</code>, in the sandbox.</p>
"""


class Hello(http.server.BaseHTTPRequestHandler):
    """Answers every GET and POST with the page."""

    protocol_version = "HTTP/1.1"
    # Head and body are two writes: with Nagle's algorithm the second waits 40 ms for the client's delayed ACK.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        env = os.environ
        names = {
            "service": env.get("K_SERVICE") or env.get("GAE_SERVICE", "hello"),
            "revision": env.get("K_REVISION") or env.get("GAE_VERSION", "none"),
        }
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
