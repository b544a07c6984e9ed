# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of targets. A new target is a file beside this one and an entry here."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets import appengine, cloudrun
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets.base import Target

TARGETS: dict[str, Target] = {target.name: target for target in (cloudrun.TARGET, appengine.TARGET)}
