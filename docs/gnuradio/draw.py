"""Draws the flowgraphs as GNU Radio Companion shows them, into the folder of this script.

Needs GNU Radio, its companion's libraries and a display, which may be a virtual one:

    apt-get install --no-install-recommends gnuradio gir1.2-gtk-3.0 python3-gi-cairo xvfb xauth
    xvfb-run -a /usr/bin/python3 docs/gnuradio/draw.py
"""

from pathlib import Path

import gi

gi.require_version("Gtk", "3.0")
gi.require_version("PangoCairo", "1.0")

from gi.repository import Gio, Gtk  # noqa: E402
from gnuradio import gr  # noqa: E402

# isort: split
from gnuradio.grc.gui.Platform import Platform  # noqa: E402  # the others need it first

# isort: split
from gnuradio.grc.gui import Actions, Utils, canvas  # noqa: E402

HERE = Path(__file__).parent
FLOWGRAPHS = HERE.parents[1] / "flowgraphs" / "gnuradio"
ALIKE = {"push_pull_tags", "pub_sub", "pub_sub_tags", "req_rep", "req_rep_tags"}


def main():
    """Draw all flowgraphs but the loopbacks that differ in their ends alone."""
    application = Gtk.Application()
    Gio.Application.set_default(application)  # the canvas looks for the program's windows
    canvas.flowgraph._ContextMenu = lambda window: None  # there are none
    Actions.TOGGLE_HIDE_VARIABLES.set_active(False)
    Actions.TOGGLE_SHOW_BLOCK_IDS.set_active(False)
    Actions.TOGGLE_SHOW_FLOWGRAPH_COMPLEXITY.set_active(False)
    platform = Platform(
        version=gr.version(),
        version_parts=(gr.major_version(), gr.api_version(), gr.minor_version()),
        prefs=gr.prefs(),
        install_prefix=gr.prefix(),
    )
    platform.build_library()
    for path in sorted(FLOWGRAPHS.glob("*.grc")):
        if path.stem.removeprefix("loopback_") in ALIKE:
            continue
        flowgraph = platform.make_flow_graph(str(path))
        flowgraph.rewrite()
        flowgraph.validate()
        flowgraph.update()
        Utils.make_screenshot(flowgraph, str(HERE / f"{path.stem}.png"))


if __name__ == "__main__":
    main()
