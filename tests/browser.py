"""A headless Chromium, where there is one: how wide a page is, what it asks for, and what comes out of a printer."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
QUIET = (
    "--no-sandbox", "--headless=new", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync",
    "--disable-extensions", "--disable-component-update", "--disable-background-networking", "--disable-default-apps",
    "--no-default-browser-check", "--disable-dev-shm-usage", "--virtual-time-budget=4000",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
MEASURE = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="page" width="{width}" height="900" style="border:0" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.getElementById("page").contentDocument, view = page.documentElement;
  const wide = [...page.querySelectorAll("body *")].filter(e => !e.closest(".scroll, figure, pre, head")
    && e.getBoundingClientRect().right > {width} + 0.5).map(e => e.tagName + "." + e.className);
  const tiny = [...page.querySelectorAll("body p, body td, body li, body dd, body summary, body h2")]
    .filter(e => parseFloat(getComputedStyle(e).fontSize) < 10).length;
  document.body.dataset.found = JSON.stringify({{width: view.scrollWidth, height: view.scrollHeight, wide, tiny,
    text: page.body.innerText.length, images: [...page.images].every(i => i.complete && i.naturalWidth > 0)}});
}});
</script>"""


@dataclass(frozen=True, slots=True)
class Browser:
    """Runs in `folder`, which holds its profile and whatever it writes."""

    folder: Path

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(CHROMIUM), *QUIET, f"--user-data-dir={self.folder / 'profile'}", *arguments],
            capture_output=True, text=True, check=True, timeout=60, cwd=self.folder,
        )  # fmt: skip
        return done.stdout

    def measure(self, page: str, width: int) -> dict[str, Any]:
        """Lay the page out at a width in CSS pixels; returns its scroll width, what sticks out, and more."""
        wrapper = self.folder / f"{width}.html"
        wrapper.write_text(MEASURE.format(width=width, page=html.escape(page)), "utf-8")
        (found,) = re.findall(r'data-found="([^"]*)"', self("--window-size=1400,1000", "--dump-dom", wrapper.as_uri()))
        return dict(json.loads(html.unescape(found)))

    def requests(self, page: str) -> set[str]:
        """Open the page and return every address it asks for; what the browser asks for itself has no origin."""
        file, log = self.folder / "page.html", self.folder / "net.json"
        file.write_text(page, "utf-8")
        self(f"--log-net-log={log}", "--dump-dom", file.as_uri())
        text = log.read_text("utf-8", errors="replace").strip()
        whole = text if text.endswith(("]\n}", "]}")) else f"{text.rstrip(',')}]}}"  # of a browser that died
        events = json.loads(whole)["events"]
        asked = [e["params"] for e in events if "initiator" in e.get("params", {})]
        ours = {a["url"] for a in asked if a["initiator"] != "not an origin"}
        return {address for address in ours if not address.startswith(("file:", "data:"))}

    def printed(self, page: str) -> bytes:
        """Return the page as PDF."""
        file, out = self.folder / "print.html", self.folder / "print.pdf"
        file.write_text(page, "utf-8")
        self("--no-pdf-header-footer", f"--print-to-pdf={out}", file.as_uri())
        return out.read_bytes()
