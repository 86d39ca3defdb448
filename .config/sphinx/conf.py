# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sphinx, over the pages that tools/site.py lays out."""

from __future__ import annotations

project = title = html_title = "gpufleet.vllm"
copyright = "gpufleet contributors"  # noqa: A001
extensions = ["myst_parser", "sphinx_antsibull_ext"]
root_doc = "docs/index"
myst_heading_anchors = 4
pygments_style = "ansible"
highlight_language = "none"
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
# A shell's comment or a JSON with an ellipsis is no such language to the letter, and shown all the same.
suppress_warnings = ["misc.highlighting_failure"]
