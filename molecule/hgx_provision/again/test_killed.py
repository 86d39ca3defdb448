# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host is bare again, and a run is killed between two packages."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run

Deploy = t.Callable[..., "Run"]
FIT = "Fit to serve: 2 GPUs (h100), driver 580.178.04"


def test_a_run_that_is_killed_between_packages_is_finished_by_the_next(host: t.Any, deploy: Deploy) -> None:
    host.check_output("sudo apt-get -qq purge '~nnvidia'")
    host.check_output("sudo rm -rf /run/cdi && sudo touch /etc/sim-kill && sudo /usr/local/lib/sim-gpu/machine boot")
    deploy(rc=2)
    status = host.check_output("dpkg-query -W -f '${db:Status-Abbrev}' nvidia-fabricmanager-580")
    assert status.strip() == "iF"
    told = deploy().text
    assert (
        "finish the installation of packages that was interrupted (nvidia-fabricmanager-580 is half-installed)" in told
    )
    assert FIT in told
    assert host.check_output("dpkg --audit") == ""


def test_a_repository_out_of_reach_is_a_sentence_and_the_next_run_goes_on(host: t.Any, deploy: Deploy) -> None:
    host.check_output("sudo apt-get -qq purge nvidia-container-toolkit && sudo mv /srv/toolkit /srv/away")
    told = deploy(rc=2).text
    assert "A repository cannot be reached. Check network, proxy and CA bundle" in told
    host.check_output("sudo mv /srv/away /srv/toolkit")
    assert FIT in deploy().text
