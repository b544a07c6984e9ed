# SPDX-License-Identifier: Apache-2.0
"""Answers every request with the name of the revision; `migrate` has nothing to do."""

import http.server
import os
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["K_REVISION"].encode())


if sys.argv[1:] == ["migrate"]:
    print("the schema is up to date")
else:
    http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
